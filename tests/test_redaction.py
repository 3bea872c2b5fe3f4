"""Secrets in commands and addresses are hidden, parameters stay as typed. CASES S14."""

import time
from typing import Any

import pytest

from tensortime.redaction import (
    LONGEST,
    hidden_values,
    redact_arguments,
    redact_code,
    redact_text,
    redact_value,
)

CANARY = "canary0f5a1d"


@pytest.mark.parametrize(
    "argument",
    [
        f"--api-key={CANARY}",
        f"--API_KEY={CANARY}",
        f"api_key={CANARY}",
        f"+model.hub.token={CANARY}",
        f"WANDB_API_KEY={CANARY}",
        f"--aws_secret_access_key={CANARY}/+ab=",
        f"--dbPassword={CANARY} with spaces",
        f"https://user:{CANARY}@example.org/x",
        f"https://{CANARY}@example.org/x",
        f"--db=postgres://u:{CANARY}@h/db",
        f"ssh://git:{CANARY}@example.org/x",
        f'{{"api_key": "{CANARY}", "lr": 1}}',
        f"import x; x.login(token='{CANARY}')",
        f"HF_TOKEN={CANARY} python train.py",
        f"Authorization: Bearer {CANARY}",
    ],
)
def test_a_secret_in_one_argument_is_hidden(argument: str) -> None:
    """S14: by its name, or as user and password of a URL."""
    hidden = redact_arguments([argument])[0]
    assert CANARY not in hidden
    assert "***" in hidden or "://" in hidden


@pytest.mark.parametrize(
    "option",
    ["--api-key", "--token", "--hf_token", "--password", "--secret", "--client-secret", "-token", "--apiKey"],
)
def test_a_secret_after_its_option_is_hidden(option: str) -> None:
    """S14: only the argument after it, and not an option that follows it."""
    assert redact_arguments([option, CANARY, "x"]) == [option, "***", "x"]
    assert redact_arguments([option, "--lr", "3"]) == [option, "--lr", "3"]


@pytest.mark.parametrize(
    "words",
    [
        ["--max-tokens", "512"],
        ["--tokenizer", "bert-base"],
        ["--pad-token", "<pad>"],
        ["--num_tokens=4096", "eos_token=2"],
        ["--secretary", "anna"],
        ["--key", "loss"],
        ["--sort-key=name", "model.key=3"],
        ["--passwordless", "yes"],
        ["--url", "https://example.org/a@v1?x=1"],
        ["git@example.org:a/b.git", "ssh://git@example.org/a"],
        ["--note", "token: the smallest unit"],
        ["--token"],
        [""],
        ["PWD=/home/lin", "python", "train.py"],
    ],
)
def test_parameters_stay_as_typed(words: list[str]) -> None:
    """What a rerun needs is not hidden for a resemblance."""
    assert redact_arguments(words) == words


KEYS = [
    "hf_" + "aBcDeFgHiJ" * 3 + "kLmN",
    "sk-" + "0f5a1d" * 8,
    "sk-proj-" + "aB3_d-" * 4 + "T3BlbkFJ" * 4,
    "sk-ant-api03-" + "x9Y" * 20,
    "ghp_" + "a1B2c3" * 6,
    "github_pat_" + "11A" * 8 + "_" + "z9" * 20,
    "AKIA" + "ABCDEFGH12345678",
    "xoxb-123456789012-abcdefghij",
    "glpat-" + "a-B_c" * 4,
    "AIza" + "Sy-3_" * 7,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP-mB92K27",
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_known_by_its_shape(key: str) -> None:
    """S14: under any name, alone, in a sentence, in a URL, in a cell, in a list, deep in params."""
    assert redact_arguments(["--model-id", key, f"x={key}", f"https://host/{key}/x"]) == [
        "--model-id",
        "***",
        "x=***",
        "https://host/***/x",
    ]
    assert redact_text(f"use {key}, please") == "use ***, please"
    assert redact_code(f"    f('{key}')") == "    f('***')"
    assert redact_value({"a": [{"b": f"({key})"}, 1], "c": [key]}) == {"a": [{"b": "(***)"}, 1], "c": ["***"]}


@pytest.mark.parametrize(
    "text",
    [
        "sk-learn-experiment-baseline-number-20",
        "task-0123456789abcdef0123456789abcdef",
        "hf_hub_download_with_a_long_name_and_more",
        "xox-3",
        "ghp_short",
        "eyJhbGciOi",
        "blake3:321e96021308421e46d64e055b61455cd799e8db2d50957db87e5c024ddd73ad",
        "0b4e7fa8c1d2e3f4a1d7cdcdf3980af7436ec474",
    ],
)
def test_what_only_looks_like_a_key_stays(text: str) -> None:
    """Names of runs, digests and commits are no secrets."""
    assert redact_arguments([text, f"name={text}"]) == [text, f"name={text}"]


def test_params_are_redacted_by_their_names() -> None:
    """S14: `tm.backup(params={"api_key": …})`, nested too; numbers and switches of a model stay."""
    given = {
        "api_key": CANARY,
        "hub": {
            "token": CANARY,
            "push": True,
            "credentials": {"user": "x"},
            "url": f"https://u:{CANARY}@h/x",
        },
        "args": ["--hf-token", CANARY, "--lr", "3e-4"],
        "lr": 3e-4,
        "pad_token": "<pad>",
        "max_tokens": 512,
        "token": None,
        "password": 12345678,
        "use_auth_token": False,
        "secret": "",
        "nll/token": 0.25,
    }
    assert redact_value(given) == {
        "api_key": "***",
        "hub": {"token": "***", "push": True, "credentials": "***", "url": "https://h/x"},
        "args": ["--hf-token", "***", "--lr", "3e-4"],
        "lr": 3e-4,
        "pad_token": "<pad>",
        "max_tokens": 512,
        "token": None,
        "password": "***",
        "use_auth_token": False,
        "secret": "",
        "nll/token": 0.25,
    }


@pytest.mark.parametrize(
    ("line", "safe"),
    [
        (f'os.environ["HF_TOKEN"] = "{CANARY}"', 'os.environ["HF_TOKEN"] = "***"'),
        (f"wandb.login(key='{CANARY}', api_key='{CANARY}')", "wandb.login(key='***', api_key='***')"),
        (f"%env WANDB_API_KEY={CANARY}", "%env WANDB_API_KEY=***"),
        (f"!huggingface-cli login --token {CANARY} -q", "!huggingface-cli login --token *** -q"),
        (f"url = 'https://u:{CANARY}@host/x'", "url = 'https://host/x'"),
        (f"h = {{'Authorization': 'Bearer {CANARY}'}}", "h = {'Authorization': 'Bearer ***'}"),
        ("tokenizer.pad_token = tokenizer.eos_token", "tokenizer.pad_token = tokenizer.eos_token"),
        ("token=get_token()", "token=get_token()"),
        ("for token in tokens:  # each", "for token in tokens:  # each"),
        ("x['password'] is None", "x['password'] is None"),
    ],
)
def test_a_line_of_a_notebook(line: str, safe: str) -> None:
    """S14: assignments, arguments, magics and shell lines; code that only names a secret stays as typed."""
    assert redact_code(line) == safe


HARD = "Sup3r.Secret!Pw"
"""A value of characters that no key has."""


@pytest.mark.parametrize(
    "option",
    [
        *(
            "--wandb-key",
            "--openai-key",
            "--pass",
            "--pwd",
            "--pat",
            "--jwt",
            "--db-pass",
            "--api-keys",
            "--hftoken",
        ),
        *("--HFToken", "--neptune-api-token", "--signing-key", "--passwd2", "--api_key_2"),
    ],
)
def test_more_names_of_secrets(option: str) -> None:
    """S14: vendors, short words, plurals, numbered ones; as an option, as a variable, as a parameter, in a text."""
    name = option.lstrip("-").replace("-", "_")
    assert redact_arguments([option, HARD]) == [option, "***"]
    assert redact_arguments([f"{option}={HARD}"]) == [f"{option}=***"]
    assert redact_arguments([f"{name.upper()}={HARD}"]) == [f"{name.upper()}=***"]
    assert redact_value({name: HARD}) == {name: "***"}
    assert redact_text(f"python a.py {option} {HARD} --lr 1") == f"python a.py {option} *** --lr 1"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        (f"COMET_KEY={HARD}", "COMET_KEY=***"),
        (f"AZURE_OPENAI_KEY={HARD}", "AZURE_OPENAI_KEY=***"),
        (f"host=h password={HARD} port=1", "host=h password=*** port=1"),
        (f"https://h/x?token={CANARY}%2Fabc&lr=1", "https://h/x?token=***&lr=1"),
        (f"https://h/x?sv=2022&sig={CANARY}%3D", "https://h/x?sv=2022&sig=***"),
        (f"https://h/x?X-Amz-Signature={CANARY}", "https://h/x?X-Amz-Signature=***"),
        (f"Authorization: Basic {CANARY}", "Authorization: Basic ***"),
        (f"Authorization: token {CANARY}", "Authorization: token ***"),
        (f"X-Api-Key: {HARD}", "X-Api-Key: ***"),
        (f"sh -c 'HF_TOKEN={HARD} python t.py'", "sh -c 'HF_TOKEN=*** python t.py'"),
        (f'cmd="python x --token={HARD}"', 'cmd="python x --token=***"'),
        (f'{{\\"api_key\\": \\"{HARD}\\"}}', '{\\"api_key\\": \\"***\\"}'),
        (f'{{"api_keys": ["{HARD}", "{CANARY}"]}}', '{"api_keys": ***}'),
        (f'{{"credentials": {{"user": "{HARD}"}}}}', '{"credentials": ***}'),
        (f'password="never closed {HARD}', 'x password="***"'),
        (f"-ihttps://u:{CANARY}@h/x", "-ihttps://h/x"),
        ("sig=0.5&key=loss", "sig=0.5&key=***"),
    ],
)
def test_a_secret_inside_a_text(text: str, safe: str) -> None:
    """S14: behind a secret name everything goes, up to what ends a word, whatever it is made of."""
    text = f"x {text}" if safe.startswith("x ") else text
    assert redact_text(text) == safe


@pytest.mark.parametrize(
    "params",
    [
        {"n_token": 512, "sos_token": 1, "bos_token_id": 1, "token": 5, "hub_token": 0.5},
        {"mask_token": "[MASK]", "other_token": "<|im_start|>", "image_token": "<image>"},
        {"label_key": "y", "image_key": "x", "text_key": "t", "feature_key": "f", "index_key": "i"},
        {
            "target_key": "t",
            "attn_key": "k",
            "query_key": "q",
            "sort_key": "s",
            "primary_key": "id",
            "key": "v",
        },
        {
            "forward_pass": "eager",
            "max_tokens": "512",
            "num_tokens": 4,
            "file_pat": "*.png",
            "signature": "default",
        },
        {"tokenizer": "bpe", "author": "lin", "monkey": "m", "turkey": "t", "compass": "c", "bypass": "x"},
    ],
)
def test_parameters_of_models_stay(params: dict[str, Any]) -> None:
    """Columns, special tokens and plain numbers are no secrets, whatever they are called."""
    assert redact_value(params) == params
    words = [f"--{name}={value}" for name, value in params.items()]
    assert redact_arguments(words) == words
    pairs = [word for name, value in params.items() for word in (f"--{name}", str(value))]
    assert redact_arguments(pairs) == pairs


@pytest.mark.parametrize(
    ("cell", "safe"),
    [
        (f'wandb.login(key="{HARD}")', 'wandb.login(key="***")'),
        (f'login("{CANARY}")', 'login("***")'),
        (f'wandb.login(relogin=True, key="{HARD}")', 'wandb.login(relogin=True, key="***")'),
        (f'token = f("X") or "{HARD}"', 'token = f("X") or "***"'),
        (f'x = env.get("HF_TOKEN") or "{HARD}"', 'x = env.get("HF_TOKEN") or "***"'),
        (f'set_secret(name="HF_TOKEN", value="{HARD}")', 'set_secret(name="HF_TOKEN", value="***")'),
        (f'hf_token: str = "{HARD}"', 'hf_token: str = "***"'),
        (f'os.environ.setdefault("HF_TOKEN", "{HARD}")', 'os.environ.setdefault("HF_TOKEN", "***")'),
        (f"os.putenv('HF_TOKEN', '{HARD}')", "os.putenv('HF_TOKEN', '***')"),
        (f'os.environ["HF_TOKEN"] = "{HARD}"', 'os.environ["HF_TOKEN"] = "***"'),
        (f'api_key = """{HARD}\n{CANARY}"""\nlr = 1', 'api_key = """***"""\nlr = 1'),
        (f'api_key = b"{HARD}"', 'api_key = b"***"'),
        (f'api_key = f"{HARD}"', 'api_key = f"***"'),
        (f'api_key = ("{HARD}")', 'api_key = ("***")'),
        (f'api_key = (\n  "{HARD}"\n  "{CANARY}"\n)', 'api_key = (\n  "***"\n  "***"\n)'),
        (f'f(["--api-key", "{HARD}"])', 'f(["--api-key", "***"])'),
        (f'connect("host=h password={HARD}")', 'connect("host=h password=***")'),
        (f'run("train --api-key {HARD}")', 'run("train --api-key ***")'),
        (f"x = 1  # api_key = {HARD}", "x = 1  # api_key = ***"),
        (f"x = !python a.py --api-key {HARD}", "x = !python a.py --api-key ***"),
        (f"!wandb login {CANARY * 4}", "!wandb login ***"),
        (f"!python a.py \\\n  --api-key {HARD}", "!python a.py \\\n  --api-key ***"),
        (f"%env HF_TOKEN {HARD}", "%env HF_TOKEN ***"),
        (f"%run x.py --token {HARD} --lr 1", "%run x.py --token *** --lr 1"),
        (f"%%bash\nexport HF_TOKEN={HARD}\nls", "%%bash\nexport HF_TOKEN=***\nls"),
        (f"%%script zsh\npython a.py --token {HARD}", "%%script zsh\npython a.py --token ***"),
        (f"%%writefile .env\nAPI_KEY={HARD}\n", "%%writefile .env\nAPI_KEY=***\n"),
        (f'%%time\napi_key = "{HARD}"', '%%time\napi_key = "***"'),
        (f"get_ipython().system('true --api-key {HARD}')", "get_ipython().system('true --api-key ***')"),
        (
            f"get_ipython().run_line_magic('env', 'HF_TOKEN {HARD}')",
            "get_ipython().run_line_magic('env', 'HF_TOKEN ***')",
        ),
    ],
)
def test_secrets_in_cells(cell: str, safe: str) -> None:
    """S14: texts with every kind of quotes, variables of the environment, magics, lines and cells for a shell."""
    assert redact_code(cell) == safe


@pytest.mark.parametrize(
    "cell",
    [
        "api_key = os.environ['X']\npassword = getpass('Password: ')\ntoken = f(x)",
        "x = a % b\ny %= 3\nif x != 3:\n    print('%d' % x)",
        "def f(token: str = '') -> None:\n    return {'token': None, 'lr': 1}",
        "s = 'it\\'s'\nt = \"# no comment\"",
        "label_key = 'y'\nbatch['image_key'] = 'x'",
    ],
)
def test_code_stays_as_typed(cell: str) -> None:
    """What only names a secret is none."""
    assert redact_code(cell) == cell


LONG = 1_000_000


def test_values_to_be_hidden_in_what_a_program_prints() -> None:
    """Those that the recorded command hides, and those of variables by their names; not what could be any word."""
    words = [
        "train.py",
        "--wandb-key",
        "3b1f" * 10,
        "--password=swordfish-1",
        "--token",
        "short",
        "--lr",
        "0.1",
    ]
    environ = {"HF_TOKEN": "no-known-shape", "API_KEY": "1", "PATH": "/usr/bin", "PAD_TOKEN": "<endoftext>"}
    assert hidden_values(words, environ) == ["3b1f" * 10, "no-known-shape", "swordfish-1"]


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "ACGT",
            "zZ9_-xQ",
            "a-b-c-",
            "http://",
            "://a@",
            "-",
            "1",
            "a=b ",
            "token=1 ",
            "token=",
            "acgt ",
            "'",
        ),
        *(
            "sk-",
            "eyJ",
            "bearer ",
            "token=basic ",
            "token=[ ",
            "token={",
            "token=( ",
            'token="""',
            "\\",
            "\\'",
            " \n",
        ),
    ],
)
def test_a_long_value_costs_little(unit: str) -> None:
    """A sequence of DNA among the params took half a minute: the cost may not grow with the square of the length."""
    started = time.monotonic()
    for text in (
        unit * (LONG // len(unit)),
        "-" + unit * (LONG // len(unit)),
        "token" + unit * (LONG // len(unit)),
    ):
        redact_text(text)
        redact_arguments(["--x", text])
        redact_code(text)
    assert time.monotonic() - started < 10


def test_a_longer_text_is_cut() -> None:
    """What is too long to be searched is not recorded, and the text says how much that is."""
    assert redact_text("x" * LONGEST) == "x" * LONGEST
    assert redact_text("x" * LONGEST + CANARY) == "x" * LONGEST + f"... ({len(CANARY)} characters more)"
    assert redact_text(f"api_key={'x' * LONGEST}{CANARY}") == "api_key=***"
