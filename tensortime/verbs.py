"""The verbs and options of the command line as a plain table: what typer would take too long to tell a waiting shell.

Made by `python tests/write_verbs.py` from `cli`; not edited by hand.
"""

from typing import NamedTuple


class Option(NamedTuple):
    """Its names, what stands for its value (None: it takes none), what it does, and whether it can be repeated."""

    names: tuple[str, ...]
    value: str | None
    help: str
    repeats: bool = False


class Verb(NamedTuple):
    """What it does, what stands for its arguments (`TAG...`: any number), how many it needs, and its options."""

    help: str
    arguments: tuple[str, ...]
    needed: int
    options: tuple[Option, ...]


VERBS: dict[str, Verb] = {
    "backup": Verb(
        "Back up the project as it is now.",
        (),
        0,
        (
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
            Option(("--note", "-m"), "TEXT", "What this run is about."),
            Option(("--name",), "NAME", "Instead of time and note."),
            Option(
                ("--add",),
                "PATH",
                "Only this, on top of the newest experiment (or --name). Repeatable.",
                True,
            ),
            Option(("--ignore",), "PATTERN", "Leave this out, as in .ttignore. Repeatable.", True),
            Option(("--rehash",), None, "Read every file again, whatever its times say."),
        ),
    ),
    "run": Verb(
        "Run a command between two backups of one experiment: of its inputs, and of what it made. The exit code is the command's.",
        ("COMMAND...",),
        0,
        (
            Option(("--note", "-m"), "TEXT", "What this run is about."),
            Option(("--name",), "NAME", "Instead of time and note."),
            Option(("--tag",), "TAG", "Tag the experiment. Repeatable.", True),
            Option(
                ("--add",),
                "PATH",
                "What it changes here is stored although a rule leaves it out. Repeatable.",
                True,
            ),
            Option(
                ("--isolated",), None, "Run it in a folder of its own, made of the backup: edit on meanwhile."
            ),
            Option(("--keep",), None, "With --isolated: leave that folder there afterwards."),
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
        ),
    ),
    "rerun": Verb(
        "Run the command of an experiment again in a new folder, and compare what comes out.",
        ("EXP", "ARG..."),
        1,
        (
            Option(
                ("--verify",),
                None,
                "Compare every output with the recorded one; exit code 0, 5, or 3 where nothing can be compared yet.",
            ),
            Option(("--env",), None, "In an environment made anew from the recorded packages."),
            Option(("--into",), "DIR", "The new folder; default: in the store's."),
            Option(("--rtol",), "X", "Numbers that differ relatively by at most this much are close: 1e-6."),
            Option(("--ignore",), "PATTERN", "Do not compare these outputs. Repeatable.", True),
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
        ),
    ),
    "log": Verb(
        "List the experiments, newest first.",
        (),
        0,
        (
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
            Option(("-n",), "N", "At most N experiments."),
            Option(("--all",), None, "Also those of other projects in the same store."),
            Option(
                ("--filter",),
                "WHAT",
                "Only those for which this holds: 'lr < 0.1 and tag == \"paper\"'; also <= != ~ in or not ( ).",
            ),
            Option(("--since",), "WHEN", "Only those since then: 12h, 2d or 1w before now, or a date."),
            Option(
                ("--sort",),
                "NAME",
                "By a metric, parameter, time, size, files or name; -NAME: the largest first.",
            ),
            Option(("--reverse",), None, "In the opposite order."),
        ),
    ),
    "show": Verb(
        "Show one experiment, or one file of it.",
        ("EXP", "PATH"),
        1,
        (
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
        ),
    ),
    "diff": Verb(
        "Tell what differs between two experiments: causes first, then effects.",
        ("A", "B"),
        0,
        (
            Option(("--patch", "-p"), None, "Also the lines of code that differ."),
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
        ),
    ),
    "restore": Verb(
        "Bring an experiment back, in a new folder, every byte checked.",
        ("EXP", "DEST"),
        1,
        (
            Option(("--path",), "PATH", "Only this file or folder, plain, into EXP.files. Repeatable.", True),
            Option(("--link",), "HOW", "Large files: auto, reflink, copy, hardlink, symlink."),
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
        ),
    ),
    "export": Verb(
        "Write an experiment with its history into one file, to be read or imported elsewhere.",
        ("EXP", "FILE"),
        2,
        (
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
        ),
    ),
    "import": Verb(
        "Take in an experiment from a file that export wrote; all of it is checked.",
        ("FILE",),
        1,
        (
            Option(("--name",), "NAME", "Another name for the experiment."),
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
        ),
    ),
    "note": Verb(
        "Give an experiment another note.",
        ("EXP", "TEXT"),
        2,
        (
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
        ),
    ),
    "tag": Verb(
        "Tag an experiment; without tags, show those that it has.",
        ("EXP", "TAG..."),
        1,
        (
            Option(("--remove",), None, "Take these tags off."),
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
        ),
    ),
    "config": Verb(
        "Show what is configured, and where each value comes from.",
        (),
        0,
        (
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
        ),
    ),
    "du": Verb(
        "Show what takes the room: what each experiment costs, and what its removal would free.",
        ("EXP...",),
        0,
        (
            Option(("--paths",), None, "Also the paths that take most over all backups."),
            Option(("-n",), "N", "At most N rows."),
            Option(("--all",), None, "Also experiments of other projects in the same store."),
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
        ),
    ),
    "rm": Verb(
        "Move experiments into the trash: undelete takes them back, gc frees their bytes. The --keep options add up: what one of them keeps stays, and so does what is tagged keep.",
        ("EXP...",),
        0,
        (
            Option(("--keep-last",), "N", "Remove all but the newest N."),
            Option(("--keep-within",), "30d", "... all but those so near to the newest (h d w y)."),
            Option(("--keep-tag",), "TAG", "... all but those with this tag. Repeatable.", True),
            Option(("--keep-daily",), "N", "... all but the last of each of N days."),
            Option(("--keep-weekly",), "N", "... all but the last of each of N weeks."),
            Option(("--dry-run",), None, "Only say what would be removed and kept, and why."),
            Option(("--worktree",), None, "Remove the folder that EXP was restored into, not EXP."),
            Option(("--force",), None, "With --worktree: also a folder that was changed."),
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
        ),
    ),
    "undelete": Verb(
        "Take experiments back out of the trash, or list it.",
        ("EXP...",),
        0,
        (
            Option(("-n",), "N", "List at most N."),
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
        ),
    ),
    "hook": Verb(
        'Print the shell hook: with eval "$(tensortime hook bash)" in ~/.bashrc, a typed command that trains is preceded by a backup.',
        ("SHELL",),
        0,
        (),
    ),
    "completion": Verb(
        'Print what completes verbs, options, experiments and paths with TAB: put eval "$(tensortime completion bash)" into ~/.bashrc.',
        ("SHELL",),
        0,
        (),
    ),
    "verify": Verb(
        "Check that all is there that the experiments need.",
        ("EXP",),
        0,
        (
            Option(
                ("--read-data",),
                "[=5%|=1G]",
                "Read every byte too; a part of them: the next call reads the next part.",
            ),
            Option(("--repair",), None, "Move aside what is provably wrong, so that a backup can heal it."),
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
        ),
    ),
    "gc": Verb(
        "Free the bytes that nobody needs any more.",
        (),
        0,
        (
            Option(("--dry-run",), None, "Only say what would be freed."),
            Option(("--trash",), None, "Also what rm removed: undelete cannot take it back then."),
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
        ),
    ),
    "purge": Verb(
        "Take a leaked secret or a mistaken folder out of every backup. There is no way back.",
        ("PATH...",),
        1,
        (
            Option(("--yes",), None, "Do not ask."),
            Option(("--dry-run",), None, "Only say what would go."),
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
        ),
    ),
    "doctor": Verb(
        "Look whether git, disk, clock and store are as backups need them, and what is not covered.",
        (),
        0,
        (
            Option(("-C",), "DIR", "As if tensortime had been started in DIR."),
            Option(("--store",), "DIR", "The store, where it is elsewhere."),
            Option(("--json",), None, "One JSON document on stdout, nothing else there."),
        ),
    ),
}
