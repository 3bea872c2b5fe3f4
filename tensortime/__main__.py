"""`tensortime` and `python -m tensortime`: the verbs typed most often answer before typer is loaded."""

import os
import sys

from tensortime import __version__

WELCOME = """\
TensorTime backs up the whole project at every run: code, data, models.

  tensortime backup --note "lr 3e-4"     back up the project now
  tensortime log                         list the experiments
  tensortime restore @                   bring the newest back, in a new folder

Verbs: backup, log, show, restore. tensortime --help says more, tensortime VERB --help says all.
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
    arguments = sys.argv[1:]
    if not arguments:
        sys.stdout.write(WELCOME)
        sys.exit(0)
    if arguments == ["--version"]:
        sys.stdout.write(f"tensortime {__version__}\n")
        sys.exit(0)
    if arguments in (["log"], ["backup"]):
        from tensortime import commands

        common = commands.Common()
        if arguments == ["log"]:
            sys.exit(commands.log(common, None, False))
        sys.exit(commands.backup(common, "", None, [], [], False))
    from tensortime import cli

    sys.exit(cli.run(arguments))


if __name__ == "__main__":
    main()
