"""Train a small network to read handwritten digits. Three lines of it are about TensorTime."""

import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.neural_network import MLPClassifier

from tensortime import TimeMachine

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--lr", type=float, default=0.001)
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--hidden", type=int, default=512)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

tm = TimeMachine(exp_suffix=f"lr{args.lr}")
tm.backup(params=vars(args))  # before the training: everything that it reads

ACTIVATION = "relu"
TEST_SHARE = 0.2

data = np.load("data/digits.npz")
pictures = data["pictures"].reshape(len(data["labels"]), -1, 64)
order = np.random.default_rng(args.seed).permutation(len(pictures))
test, train = np.split(order, [int(TEST_SHARE * len(order))])
x_train, y_train = pictures[train].reshape(-1, 64), np.repeat(data["labels"][train], pictures.shape[1])
x_test, y_test = pictures[test, pictures.shape[1] // 2], data["labels"][test]

model = MLPClassifier(
    (args.hidden, args.hidden), activation=ACTIVATION, learning_rate_init=args.lr, random_state=args.seed
)
for epoch in range(1, args.epochs + 1):
    model.partial_fit(x_train, y_train, classes=np.arange(10))
    accuracy = model.score(x_test, y_test)
    print(f"epoch {epoch}: loss {model.loss_:.4f}, test accuracy {accuracy:.4f}")

Path("save").mkdir(exist_ok=True)
np.savez("save/model.npz", *model.coefs_, *model.intercepts_)
Path("save/metrics.json").write_text(json.dumps({"loss": model.loss_, "accuracy": accuracy}, indent=2) + "\n")

# after the training: what it made, in the same experiment
tm.backup(add=["save"], metrics={"loss": model.loss_, "accuracy": accuracy})
