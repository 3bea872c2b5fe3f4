"""Real interactive shells on a pseudo terminal, with an empty home and our hook."""

import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pexpect
import pytest

BIN = os.path.dirname(os.path.abspath(sys.executable))
READY = "READY"
SETTINGS = {
    "bash": ("--noprofile", "--rcfile", ".bashrc", "-i"),
    "zsh": ("--no-globalrcs", "-i"),
    "fish": ("--interactive",),
}
FILES = {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".config/fish/config.fish"}
PROMPTS = {
    "bash": "PS1='<$?>" + READY + " '; PS2='more '; bind 'set enable-bracketed-paste off'\n",
    "zsh": "PROMPT='<%?>" + READY + " '; PROMPT2='more '; unsetopt zle prompt_cr prompt_sp\n",
    # fish draws its prompt again with each key: an event, which comes once, tells instead.
    "fish": "function fish_prompt; end; set -g fish_greeting\n"
    'function __ready --on-event fish_prompt; echo "<$status>' + READY + ' "; end\n',
}
LOADS = {
    "bash": 'eval "$(tensortime hook bash)"\n',
    "zsh": 'eval "$(tensortime hook zsh)"\n',
    "fish": "tensortime hook fish | source\n",
}


class Shell:
    """One interactive shell. `run` types a line and returns what the terminal showed until the next prompt."""

    def __init__(
        self,
        name: str,
        home: Path,
        cwd: Path,
        *,
        before: str = "",
        after: str = "",
        env: Mapping[str, str] | None = None,
    ) -> None:
        program = shutil.which(name)
        if program is None:
            pytest.skip(f"{name} is not installed")
        self.name, self.home = name, home
        file = home / FILES[name]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(PROMPTS[name] + before + LOADS[name] + after)
        bash_words = [str(home / word) if word == ".bashrc" else word for word in SETTINGS[name]]
        variables = {
            **{key: value for key, value in os.environ.items() if not key.startswith("BASH")},
            "HOME": str(home),
            "ZDOTDIR": str(home),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "TERM": "dumb",
            "CI": "1",  # tm.backup() asks nobody for a note
            **(env or {}),
        }
        self.child = pexpect.spawn(
            program,
            bash_words,
            cwd=str(cwd),
            env=variables,
            encoding="utf-8",
            echo=False,
            dimensions=(50, 500),
            timeout=40,
        )
        self.status = 0
        self.wait()

    def wait(self) -> str:
        """What is shown until the next prompt; keeps the status that it tells."""
        self.child.expect(rf"<(\d+)>{READY} ")
        assert self.child.match is not None
        self.status = int(self.child.match.group(1))
        return re.sub(r"\x1b[^a-zA-Z]*[a-zA-Z]|\r", "", self.child.before or "")

    def run(self, line: str) -> str:
        """Type one line, or several that are one command."""
        for part in line.split("\n"):
            self.child.sendline(part)
        shown = self.wait()
        # fish shows what is typed, over and over.
        return (shown.rpartition(line + "\n")[2] if self.name == "fish" else shown).strip("⏎ \n")

    def type_ahead(self, line: str, seconds: float) -> None:
        """Type a line and wait for no prompt."""
        self.child.sendline(line)
        time.sleep(seconds)

    def interrupt(self) -> str:
        """Ctrl-C, until the next prompt."""
        self.child.sendintr()
        return self.wait()

    def close(self) -> None:
        """End it."""
        self.child.close(force=True)
