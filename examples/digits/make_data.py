"""Make data/digits.npz: the handwritten digits that scikit-learn carries, each moved a pixel in nine directions."""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--noise", type=float, default=0.0, help="how much noise is added to every pixel")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

digits = load_digits()
pictures = digits.images.astype(np.float32) / 16
moves = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
moved = np.stack([np.roll(pictures, move, axis=(1, 2)) for move in moves], axis=1)
moved += np.random.default_rng(args.seed).normal(0, args.noise, moved.shape).astype(np.float32)

Path("data").mkdir(exist_ok=True)
np.savez("data/digits.npz", pictures=moved, labels=digits.target)
print(f"data/digits.npz: {moved.shape[0] * moved.shape[1]} pictures, {moved.nbytes / 1e6:.1f} MB")
