"""`tensortime` and `python -m tensortime`: the verbs typed most often answer before typer is loaded."""

import sys

from tensortime import __version__

WELCOME = """\
TensorTime backs up the whole project at every run: code, data, models.

  tensortime backup --note "lr 3e-4"     back up the project now
  tensortime log                         list the experiments
  tensortime restore @                   bring the newest back, in a new folder

Verbs: backup, log, show, restore. tensortime --help says more, tensortime VERB --help says all.
"""


def main() -> None:
    """The entry point of the command."""
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
