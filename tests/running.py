"""Commands run bare and through `run_command`, to compare what everybody else sees of them."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensortime import child
from tensortime.outputlog import OutputLog

BARE, RUN = "bare", "run"


def command_line(way: str, words: Sequence[str], folder: Path) -> list[str]:
    """What starts a command bare, or through run_command with its log and its ending in a folder."""
    return list(words) if way == BARE else [sys.executable, "-W", "error", __file__, str(folder), *words]


def python(script: str) -> list[str]:
    """The command that runs a Python script."""
    return [sys.executable, "-c", script]


def variables(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of such a command."""
    return {**os.environ, "PYTHONPATH": str(Path(child.__file__).parent.parent), **(more or {})}


def piped(
    way: str, words: Sequence[str], folder: Path, **options: Any
) -> "subprocess.CompletedProcess[bytes]":
    """Run a command to its end, its streams as `options` of subprocess.run say."""
    given = {"stdin": subprocess.DEVNULL} if "input" not in options else {}
    return subprocess.run(
        command_line(way, words, folder),
        cwd=folder,
        env=variables(),
        check=False,
        timeout=60,
        **{"capture_output": not {"stdout", "stderr"} & set(options), **given, **options},
    )


def ending_in(folder: Path) -> dict[str, Any]:
    """How the last command ended, as run_command told it."""
    found: dict[str, Any] = json.loads((folder / "ending.json").read_text("utf-8"))
    return found


def log_in(folder: Path) -> bytes:
    """What its log holds."""
    return (folder / "output.log").read_bytes()


def main(folder: str, *words: str) -> int:
    """Run words with the log and the ending in a folder; exit as they did."""
    log = OutputLog(os.path.join(folder, "output.log"))
    ending = child.run_command(words, folder=os.getcwd(), environment=os.environ, log=log)
    log.close()
    facts = {**dataclasses.asdict(ending), "refused": str(ending.refused or "")}
    Path(folder, "ending.json").write_text(json.dumps(facts), "utf-8")
    return ending.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
