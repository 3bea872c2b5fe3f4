"""Secrets in commands and addresses are hidden, parameters stay as typed. CASES S14."""

import pytest

from tensortime.redaction import redact_arguments, redact_code, redact_text, redact_value

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
        (f"wandb.login(key='x', api_key='{CANARY}')", "wandb.login(key='x', api_key='***')"),
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
