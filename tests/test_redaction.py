"""Secrets in commands and addresses are hidden, parameters stay as typed. CASES S14."""

import pytest

from tensortime.redaction import redact_arguments

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
