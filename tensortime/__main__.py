"""`tensortime` and `python -m tensortime`: the verbs typed most often answer before typer is loaded."""

import contextlib
import os
import sys

from tensortime import __version__

WELCOME = """\
TensorTime backs up the whole project at every run: code, data, models.

  tensortime backup --note "lr 3e-4"     back up the project now
  tensortime log                         list the experiments
  tensortime restore @                   bring the newest back, in a new folder

Verbs: backup, log, show, restore, du, rm, undelete. tensortime --help says more, tensortime VERB --help says all.
"""


def occupy_standard_streams() -> None:
    """Where stdin, stdout or stderr was closed, no file of the store may get its number: others write to it."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def main() -> None:
    """The entry point of the command."""
    occupy_standard_streams()
    try:
        code = dispatch(sys.argv[1:])
        if sys.stdout is not None:  # it was closed
            sys.stdout.flush()
    except OSError as problem:
        # Nobody reads any more (`--help | head`), or what reads is full.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stderr.write("" if isinstance(problem, BrokenPipeError) else f"tensortime: {problem}\n")
        code = 0 if isinstance(problem, BrokenPipeError) else 1
    sys.exit(code)


def dispatch(arguments: list[str]) -> int:
    """Answer the plain calls at once, hand all others to typer; returns the exit code."""
    if not arguments or arguments == ["--version"]:
        sys.stdout.write(WELCOME if not arguments else f"tensortime {__version__}\n")
        return 0
    if arguments in (["log"], ["backup"]):
        from tensortime import commands

        common = commands.Common()
        if arguments == ["log"]:
            return commands.log(common, None, False)
        return commands.backup(common, "", None, [], [], False)
    from tensortime import cli

    return cli.run(arguments)


if __name__ == "__main__":
    main()
