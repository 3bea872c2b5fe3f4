"""The command line: typer parses, `commands` does the rest. What a verb does is loaded when it is called."""

import itertools
import sys
from typing import Annotated, Any

import typer

from tensortime.errors import UsageError, message
from tensortime.language import translator
from tensortime.manual import Section, manual_page, page_width
from tensortime.overview import overview
from tensortime.shortcuts import verb_first

tr = translator()
"""Help is made where the options are named, before any of them is read."""


def page(command: Any, context: Any) -> str:
    """The help of a verb, in the person's language."""
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.get_params(context) if one.param_type_name == "option"]
    sections = [
        Section(tr("Arguments:"), [(one.metavar, one.help or "") for one in arguments]),
        Section(tr("Options:"), [record for one in options if (record := option_record(one, context))]),
    ]
    words = [*map(usage_of, arguments), tr("[OPTIONS]")]
    # What is behind the command of `run` is the command's.
    words = words if context.allow_interspersed_args else words[::-1]
    usage = " ".join([context.command_path, *words])
    return "\n".join(manual_page(usage, command.help or "", sections, [], page_width(), tr, command.name))


def read_in_pager(text: str) -> str:
    """A help page that is to be printed, unless the person has read it in their pager."""
    from tensortime import pager

    if pager.show(text.split("\n"), sys.stdout, sys.stdin):
        raise typer.Exit
    return text


def usage_of(argument: Any) -> str:
    """An argument as the usage shows it: `EXP`, `[PATH]`, `[TAG...]`."""
    shown = argument.metavar + ("..." if argument.nargs == -1 else "")
    return shown if argument.required else f"[{shown}]"


def option_record(option: Any, context: Any) -> tuple[str, str] | None:
    """The names of an option and what it does."""
    record = option.get_help_record(context)
    if record is None:
        return None
    # The second part is typer's: the help with its own words on defaults.
    return record[0], tr("Show this and exit.") if "--help" in record[0] else option.help or ""


class Verb(typer.core.TyperCommand):
    """A command with our help."""

    def get_help(self, ctx: Any) -> str:
        """The page of `--help`."""
        return read_in_pager(page(self, ctx))


class Verbs(typer.core.TyperGroup):
    """All commands with our help."""

    def get_help(self, ctx: Any) -> str:
        """The page of `--help`."""
        return read_in_pager(overview(tr))


app = typer.Typer(
    name="tensortime",
    cls=Verbs,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Directory = Annotated[
    str | None, typer.Option("-C", metavar="DIR", help=tr("As if tensortime had been started in DIR."))
]
StoreOption = Annotated[
    str | None, typer.Option("--store", metavar="DIR", help=tr("The store, where it is elsewhere."))
]
Json = Annotated[bool, typer.Option("--json", help=tr("One JSON document on stdout, nothing else there."))]
Exp = Annotated[
    str, typer.Argument(metavar="EXP", help=tr("Name, part of one, @ or @~2; EXP:1 is its first backup."))
]


@app.command(cls=Verb, help=tr("Back up the project as it is now."))
def backup(
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
    note: Annotated[
        str, typer.Option("--note", "-m", metavar="TEXT", help=tr("What this run is about."))
    ] = "",
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help=tr("Instead of time and note."))
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(
            "--add",
            metavar="PATH",
            help=tr("Only this, on top of the newest experiment (or --name). Repeatable."),
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="PATTERN", help=tr("Leave this out, as in .ttignore. Repeatable.")),
    ] = None,
    rehash: Annotated[
        bool, typer.Option("--rehash", help=tr("Read every file again, whatever its times say."))
    ] = False,
) -> None:
    """Parse `tensortime backup`."""
    from tensortime import commands
    from tensortime.commands import Common

    common = Common(directory, store, as_json)
    raise typer.Exit(commands.backup(common, note, name, add or [], ignore or [], rehash))


@app.command(
    "run",
    cls=Verb,
    help=tr(
        "Run a command between two backups of one experiment: of its inputs, and of what it made. The exit code is the "
        "command's."
    ),
    context_settings={"allow_interspersed_args": False},
)
def run_command(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help=tr("The command, behind -- or the last option.")),
    ] = None,
    note: Annotated[
        str, typer.Option("--note", "-m", metavar="TEXT", help=tr("What this run is about."))
    ] = "",
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help=tr("Instead of time and note."))
    ] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help=tr("Tag the experiment. Repeatable."))
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(
            "--add",
            metavar="PATH",
            help=tr("What it changes here is stored although a rule leaves it out. Repeatable."),
        ),
    ] = None,
    isolated: Annotated[
        bool,
        typer.Option(
            "--isolated", help=tr("Run it in a folder of its own, made of the backup: edit on meanwhile.")
        ),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help=tr("With --isolated: leave that folder there afterwards."))
    ] = False,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Parse `tensortime run`."""
    from tensortime import running_commands
    from tensortime.commands import Common

    common = Common(directory, store, as_json)
    raise typer.Exit(
        running_commands.run(common, words or [], note, name, tags or [], add or [], isolated, keep)
    )


@app.command(
    cls=Verb, help=tr("Run the command of an experiment again in a new folder, and compare what comes out.")
)
def rerun(
    experiment: Exp,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARG", help=tr("Behind --: instead of the arguments of then, behind the script.")
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help=tr(
                "Compare every output with the recorded one; exit code 0, 5, or 3 where nothing can be compared yet."
            ),
        ),
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--env", help=tr("In an environment made anew from the recorded packages."))
    ] = False,
    into: Annotated[
        str | None, typer.Option("--into", metavar="DIR", help=tr("The new folder; default: in the store's."))
    ] = None,
    rtol: Annotated[
        float,
        typer.Option(
            "--rtol",
            metavar="X",
            help=tr("Numbers that differ relatively by at most this much are close: 1e-6."),
        ),
    ] = 0.0,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="PATTERN", help=tr("Do not compare these outputs. Repeatable.")),
    ] = None,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Parse `tensortime rerun`."""
    from tensortime import rerun_commands
    from tensortime.commands import Common

    raise typer.Exit(
        rerun_commands.rerun(
            Common(directory, store, as_json),
            experiment,
            arguments or [],
            verify,
            rebuild,
            into,
            rtol,
            ignore or [],
        )
    )


@app.command(cls=Verb, help=tr("List the experiments, newest first."))
def log(
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
    limit: Annotated[
        int | None, typer.Option("-n", metavar="N", min=1, help=tr("At most N experiments."))
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help=tr("Also those of other projects in the same store."))
    ] = False,
    where: Annotated[
        str | None,
        typer.Option(
            "--filter",
            metavar="WHAT",
            help=tr(
                "Only those for which this holds: 'lr < 0.1 and tag == \"paper\"'; also <= != ~ in or not ( )."
            ),
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="WHEN", help=tr("Only those since then: 12h, 2d or 1w before now, or a date.")
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort",
            metavar="NAME",
            help=tr("By a metric, parameter, time, size, files or name; -NAME: the largest first."),
        ),
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help=tr("In the opposite order."))] = False,
) -> None:
    """Parse `tensortime log`."""
    from tensortime import commands
    from tensortime.commands import Common

    common = Common(directory, store, as_json)
    raise typer.Exit(
        commands.log(common, limit, everything, where=where, since=since, sort=sort, reverse=reverse)
    )


@app.command(cls=Verb, help=tr("Show one experiment, or one file of it."))
def show(
    experiment: Exp,
    path: Annotated[
        str | None, typer.Argument(metavar="PATH", help=tr("A file of it: its bytes go to stdout."))
    ] = None,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Parse `tensortime show`."""
    from tensortime import commands
    from tensortime.commands import Common

    raise typer.Exit(commands.show(Common(directory, store, as_json), experiment, path))


@app.command(cls=Verb, help=tr("Tell what differs between two experiments: causes first, then effects."))
def diff(
    a: Annotated[
        str, typer.Argument(metavar="A", help=tr("The experiment to start from; default: @, the newest."))
    ] = "@",
    b: Annotated[
        str | None,
        typer.Argument(metavar="B", help=tr("The other one; default: the project as it is now.")),
    ] = None,
    patch: Annotated[
        bool, typer.Option("--patch", "-p", help=tr("Also the lines of code that differ."))
    ] = False,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Parse `tensortime diff`."""
    from tensortime import commands
    from tensortime.commands import Common

    raise typer.Exit(commands.diff(Common(directory, store, as_json), a, b, patch))


@app.command(cls=Verb, help=tr("Bring an experiment back, in a new folder, every byte checked."))
def restore(
    experiment: Exp,
    destination: Annotated[
        str | None,
        typer.Argument(metavar="DEST", help=tr("A new folder; default: EXP in the store's folder.")),
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(
            "--path",
            metavar="PATH",
            help=tr("Only this file or folder, plain, into EXP.files. Repeatable."),
        ),
    ] = None,
    link: Annotated[
        str,
        typer.Option(
            "--link", metavar="HOW", help=tr("Large files: auto, reflink, copy, hardlink, symlink.")
        ),
    ] = "auto",
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Parse `tensortime restore`."""
    from tensortime import commands
    from tensortime.commands import Common

    raise typer.Exit(
        commands.restore(Common(directory, store, as_json), experiment, destination, path or [], link)
    )


@app.command(
    cls=Verb, help=tr("Write an experiment with its history into one file, to be read or imported elsewhere.")
)
def export(
    experiment: Exp,
    file: Annotated[str, typer.Argument(metavar="FILE", help=tr("A new file, FILE.zip or FILE.tar."))],
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Parse `tensortime export`."""
    from tensortime import portable_commands
    from tensortime.commands import Common

    raise typer.Exit(portable_commands.export(Common(directory, store, as_json), experiment, file))


@app.command(
    "import", cls=Verb, help=tr("Take in an experiment from a file that export wrote; all of it is checked.")
)
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help=tr("What tensortime export wrote."))],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help=tr("Another name for the experiment."))
    ] = None,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Parse `tensortime import`."""
    from tensortime import portable_commands
    from tensortime.commands import Common

    raise typer.Exit(portable_commands.import_(Common(directory, store, as_json), file, name))


@app.command(cls=Verb, help=tr("Give an experiment another note."))
def note(
    experiment: Exp,
    text: Annotated[str, typer.Argument(metavar="TEXT", help=tr('The whole note; "" removes it.'))],
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Parse `tensortime note`."""
    from tensortime import commands
    from tensortime.commands import Common

    raise typer.Exit(commands.note(Common(directory, store, as_json), experiment, text))


@app.command(cls=Verb, help=tr("Tag an experiment; without tags, show those that it has."))
def tag(
    experiment: Exp,
    tags: Annotated[list[str] | None, typer.Argument(metavar="TAG", help=tr("Words without spaces."))] = None,
    remove: Annotated[bool, typer.Option("--remove", help=tr("Take these tags off."))] = False,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Parse `tensortime tag`."""
    from tensortime import commands
    from tensortime.commands import Common

    raise typer.Exit(commands.tag(Common(directory, store, as_json), experiment, tags or [], remove))


@app.command(cls=Verb, help=tr("Show what is configured, and where each value comes from."))
def config(directory: Directory = None, store: StoreOption = None, as_json: Json = False) -> None:
    """Parse `tensortime config`."""
    from tensortime import commands
    from tensortime.commands import Common

    raise typer.Exit(commands.config(Common(directory, store, as_json)))


@app.command(
    cls=Verb,
    help=tr("Show what takes the room: what each experiment costs, and what its removal would free."),
)
def du(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(metavar="EXP", help=tr("Only these, and what would be freed if all of them went.")),
    ] = None,
    paths: Annotated[
        bool, typer.Option("--paths", help=tr("Also the paths that take most over all backups."))
    ] = False,
    limit: Annotated[int | None, typer.Option("-n", metavar="N", min=1, help=tr("At most N rows."))] = None,
    everything: Annotated[
        bool, typer.Option("--all", help=tr("Also experiments of other projects in the same store."))
    ] = False,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Parse `tensortime du`."""
    from tensortime import upkeep_commands
    from tensortime.commands import Common

    common = Common(directory, store, as_json)
    raise typer.Exit(upkeep_commands.du(common, experiments or [], limit, paths, everything))


@app.command(
    cls=Verb,
    help=tr(
        "Move experiments into the trash: undelete takes them back, gc frees their bytes. The --keep options add up: "
        "what one of them keeps stays, and so does what is tagged keep."
    ),
)
def rm(
    experiments: Annotated[
        list[str] | None, typer.Argument(metavar="EXP", help=tr("What to remove."))
    ] = None,
    keep_last: Annotated[
        int | None, typer.Option("--keep-last", metavar="N", help=tr("Remove all but the newest N."))
    ] = None,
    keep_within: Annotated[
        str | None,
        typer.Option(
            "--keep-within", metavar="30d", help=tr("... all but those so near to the newest (h d w y).")
        ),
    ] = None,
    keep_tag: Annotated[
        list[str] | None,
        typer.Option("--keep-tag", metavar="TAG", help=tr("... all but those with this tag. Repeatable.")),
    ] = None,
    keep_daily: Annotated[
        int | None,
        typer.Option("--keep-daily", metavar="N", help=tr("... all but the last of each of N days.")),
    ] = None,
    keep_weekly: Annotated[
        int | None,
        typer.Option("--keep-weekly", metavar="N", help=tr("... all but the last of each of N weeks.")),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help=tr("Only say what would be removed and kept, and why."))
    ] = False,
    worktree: Annotated[
        bool, typer.Option("--worktree", help=tr("Remove the folder that EXP was restored into, not EXP."))
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help=tr("With --worktree: also a folder that was changed."))
    ] = False,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Parse `tensortime rm`."""
    from tensortime import upkeep_commands
    from tensortime.commands import Common

    common = Common(directory, store, as_json)
    keep = upkeep_commands.Keep(keep_last, keep_within, tuple(keep_tag or ()), keep_daily, keep_weekly)
    if worktree:
        raise typer.Exit(upkeep_commands.rm_worktree(common, experiments or [], keep, dry_run, force))
    raise typer.Exit(upkeep_commands.rm(common, experiments or [], keep, dry_run))


@app.command(cls=Verb, help=tr("Take experiments back out of the trash, or list it."))
def undelete(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(metavar="EXP", help=tr("What to take back; without a name the trash is listed.")),
    ] = None,
    limit: Annotated[int | None, typer.Option("-n", metavar="N", min=1, help=tr("List at most N."))] = None,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Parse `tensortime undelete`."""
    from tensortime import upkeep_commands
    from tensortime.commands import Common

    raise typer.Exit(upkeep_commands.undelete(Common(directory, store, as_json), experiments or [], limit))


@app.command(
    cls=Verb,
    help=tr(
        'Print the shell hook: with eval "$(tensortime hook bash)" in ~/.bashrc, a typed command that trains is '
        "preceded by a backup."
    ),
)
def hook(
    shell: Annotated[str | None, typer.Argument(metavar="SHELL", help=tr("bash, zsh or fish."))] = None,
) -> None:
    """Parse `tensortime hook`."""
    from tensortime import hook as shell_hook

    raise typer.Exit(shell_hook.answer(shell))


@app.command(
    "completion",
    cls=Verb,
    help=tr(
        'Print what completes verbs, options, experiments and paths with TAB: put eval "$(tensortime completion '
        'bash)" into ~/.bashrc.'
    ),
)
def complete(
    shell: Annotated[str | None, typer.Argument(metavar="SHELL", help=tr("bash, zsh or fish."))] = None,
) -> None:
    """Parse `tensortime completion`."""
    from tensortime import completion

    raise typer.Exit(completion.answer(shell))


@app.command(cls=Verb, help=tr("Check that all is there that the experiments need."))
def verify(
    experiment: Annotated[
        str | None,
        typer.Argument(metavar="EXP", help=tr("Only this experiment; EXP:1 only its first backup.")),
    ] = None,
    read_data: Annotated[
        str | None,
        typer.Option(
            "--read-data",
            metavar="[=5%|=1G]",
            help=tr("Read every byte too; a part of them: the next call reads the next part."),
        ),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help=tr("Move aside what is provably wrong, so that a backup can heal it.")),
    ] = False,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Parse `tensortime verify`."""
    from tensortime import maintenance_commands
    from tensortime.commands import Common

    raise typer.Exit(
        maintenance_commands.verify(Common(directory, store, as_json), experiment, read_data, repair)
    )


@app.command(cls=Verb, help=tr("Free the bytes that nobody needs any more."))
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help=tr("Only say what would be freed."))] = False,
    trash: Annotated[
        bool, typer.Option("--trash", help=tr("Also what rm removed: undelete cannot take it back then."))
    ] = False,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Parse `tensortime gc`."""
    from tensortime import maintenance_commands
    from tensortime.commands import Common

    raise typer.Exit(maintenance_commands.gc(Common(directory, store, as_json), dry_run, trash))


@app.command(
    cls=Verb, help=tr("Take a leaked secret or a mistaken folder out of every backup. There is no way back.")
)
def purge(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help=tr("Files or folders of the project."))],
    yes: Annotated[bool, typer.Option("--yes", help=tr("Do not ask."))] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=tr("Only say what would go."))] = False,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Parse `tensortime purge`."""
    from tensortime import maintenance_commands
    from tensortime.commands import Common

    raise typer.Exit(maintenance_commands.purge(Common(directory, store, as_json), paths, yes, dry_run))


@app.command(
    cls=Verb,
    help=tr("Look whether git, disk, clock and store are as backups need them, and what is not covered."),
)
def doctor(directory: Directory = None, store: StoreOption = None, as_json: Json = False) -> None:
    """Parse `tensortime doctor`."""
    from tensortime import maintenance_commands
    from tensortime.commands import Common

    raise typer.Exit(maintenance_commands.doctor(Common(directory, store, as_json)))


def with_values(arguments: list[str]) -> list[str]:
    """`--read-data` alone means all of it: an option of typer takes a value or none, not either."""
    if arguments[:1] != ["verify"]:
        return arguments
    return ["--read-data=all" if word == "--read-data" else word for word in arguments]


def no_number(problem: Any, arguments: list[str]) -> tuple[str, str] | None:
    """The option and the word, where a word stands in place of a number."""
    if "valid integer" not in problem.format_message():
        return None
    names = getattr(getattr(problem, "param", None), "opts", [])
    for option, word in itertools.pairwise(arguments):
        if option in names:
            return option, word
    return None


def run(arguments: list[str]) -> int:
    """Parse and run; returns the exit code. A wrong call is answered like every other error."""
    command: Any = typer.main.get_command(app)
    as_json = "--json" in arguments[: arguments.index("--") if "--" in arguments else None]
    arguments = with_values(verb_first(arguments))
    try:
        code = command.main(args=arguments, prog_name="tensortime", standalone_mode=False)
        return int(code or 0)
    except typer.Exit as done:
        return int(done.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        from tensortime.commands import INTERRUPTED

        return INTERRUPTED
    except Exception as problem:
        # typer carries its own copy of click since 0.26: the classes have no public name, the method has.
        if not hasattr(problem, "format_message"):
            raise
        hint = message("tensortime --help lists the commands")
        context = getattr(problem, "ctx", None)
        if context is not None and context.info_name != "tensortime":
            hint = message("tensortime {verb} --help shows how it is called", verb=context.info_name)
        error = UsageError("{problem}", problem=problem.format_message(), hint=hint)
        if (wrong := no_number(problem, arguments)) is not None:
            error = UsageError(
                "{option} takes a number, not {word}", option=wrong[0], word=wrong[1], hint=hint
            )
        from tensortime.commands import Common, report_error

        report_error(Common(as_json=as_json), error)
        return error.exit_code
