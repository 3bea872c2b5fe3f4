"""The command line: typer parses, `commands` does the rest."""

from typing import Annotated, Any

import typer

from tensortime import commands
from tensortime.commands import Common
from tensortime.errors import UsageError

EPILOG = """\
Exit codes: 0 done · 1 failed · 2 usage · 3 done, but something was skipped or changed while it was read ·
4 no such store or experiment, or ambiguous · 5 damage found · 6 store busy · 130 interrupted.
EXP is a name, a unique beginning or part of one, @ (the newest) or @~2 (two before it); EXP:1 is its first backup."""

app = typer.Typer(
    name="tensortime",
    help="Back up the whole project at every run: code, data, models. Any day later bring a run back, byte for byte.",
    epilog=EPILOG,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Directory = Annotated[
    str | None, typer.Option("-C", metavar="DIR", help="As if tensortime had been started in DIR.")
]
StoreOption = Annotated[
    str | None, typer.Option("--store", metavar="DIR", help="The store, where it is elsewhere.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else there.")]
Exp = Annotated[
    str, typer.Argument(metavar="EXP", help="Name, part of one, @ or @~2; EXP:1 is its first backup.")
]


@app.command()
def backup(
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
    note: Annotated[str, typer.Option("--note", "-m", metavar="TEXT", help="What this run is about.")] = "",
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Instead of time and note.")
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(
            "--add",
            metavar="PATH",
            help="Only this, on top of the newest experiment (or --name). Repeatable.",
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="PATTERN", help="Leave this out, as in .ttignore. Repeatable."),
    ] = None,
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Read every file again, whatever its times say.")
    ] = False,
) -> None:
    """Back up the project as it is now."""
    common = Common(directory, store, as_json)
    raise typer.Exit(commands.backup(common, note, name, add or [], ignore or [], rehash))


@app.command()
def log(
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
    limit: Annotated[
        int | None, typer.Option("-n", metavar="N", min=1, help="At most N experiments.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those of other projects in the same store.")
    ] = False,
) -> None:
    """List the experiments, newest first."""
    raise typer.Exit(commands.log(Common(directory, store, as_json), limit, everything))


@app.command()
def show(
    experiment: Exp,
    path: Annotated[
        str | None, typer.Argument(metavar="PATH", help="A file of it: its bytes go to stdout.")
    ] = None,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Show one experiment, or one file of it."""
    raise typer.Exit(commands.show(Common(directory, store, as_json), experiment, path))


@app.command()
def restore(
    experiment: Exp,
    destination: Annotated[
        str | None, typer.Argument(metavar="DEST", help="A new folder; default: EXP in the store's folder.")
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(
            "--path", metavar="PATH", help="Only this file or folder, plain, into EXP.files. Repeatable."
        ),
    ] = None,
    link: Annotated[
        str,
        typer.Option("--link", metavar="HOW", help="Large files: auto, reflink, copy, hardlink, symlink."),
    ] = "auto",
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Bring an experiment back, in a new folder, every byte checked."""
    raise typer.Exit(
        commands.restore(Common(directory, store, as_json), experiment, destination, path or [], link)
    )


@app.command()
def du(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[EXP]...", help="Only these, and what would be freed if all of them went."),
    ] = None,
    paths: Annotated[
        bool, typer.Option("--paths", help="Also the paths that take most over all backups.")
    ] = False,
    limit: Annotated[int | None, typer.Option("-n", metavar="N", min=1, help="At most N rows.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also experiments of other projects in the same store.")
    ] = False,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Show what takes the room: what each experiment costs, and what its removal would free."""
    common = Common(directory, store, as_json)
    raise typer.Exit(commands.du(common, experiments or [], limit, paths, everything))


@app.command()
def rm(
    experiments: Annotated[
        list[str] | None, typer.Argument(metavar="[EXP]...", help="What to remove.")
    ] = None,
    keep_last: Annotated[
        int | None, typer.Option("--keep-last", metavar="N", help="Remove all but the newest N.")
    ] = None,
    keep_within: Annotated[
        str | None,
        typer.Option(
            "--keep-within", metavar="30d", help="... all but those so near to the newest (h d w y)."
        ),
    ] = None,
    keep_tag: Annotated[
        list[str] | None,
        typer.Option("--keep-tag", metavar="TAG", help="... all but those with this tag. Repeatable."),
    ] = None,
    keep_daily: Annotated[
        int | None, typer.Option("--keep-daily", metavar="N", help="... all but the last of each of N days.")
    ] = None,
    keep_weekly: Annotated[
        int | None,
        typer.Option("--keep-weekly", metavar="N", help="... all but the last of each of N weeks."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed and kept, and why.")
    ] = False,
    worktree: Annotated[
        bool, typer.Option("--worktree", help="Remove the folder that EXP was restored into, not EXP.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --worktree: also a folder that was changed.")
    ] = False,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Move experiments into the trash (undelete takes them back, gc frees their bytes).

    The --keep options add up: what one of them keeps stays, and so does what is tagged keep.
    """
    common = Common(directory, store, as_json)
    keep = commands.Keep(keep_last, keep_within, tuple(keep_tag or ()), keep_daily, keep_weekly)
    if worktree:
        raise typer.Exit(commands.rm_worktree(common, experiments or [], keep, dry_run, force))
    raise typer.Exit(commands.rm(common, experiments or [], keep, dry_run))


@app.command()
def undelete(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[EXP]...", help="What to take back; without a name the trash is listed."),
    ] = None,
    limit: Annotated[int | None, typer.Option("-n", metavar="N", min=1, help="List at most N.")] = None,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Take experiments back out of the trash, or list it."""
    raise typer.Exit(commands.undelete(Common(directory, store, as_json), experiments or [], limit))


@app.command()
def verify(
    experiment: Annotated[
        str | None, typer.Argument(metavar="EXP", help="Only this experiment; EXP:1 only its first backup.")
    ] = None,
    read_data: Annotated[
        str | None,
        typer.Option(
            "--read-data",
            metavar="[=5%|=1G]",
            help="Read every byte too; a part of them: the next call reads the next part.",
        ),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Move aside what is provably wrong, so that a backup can heal it."),
    ] = False,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Check that all is there that the experiments need."""
    raise typer.Exit(commands.verify(Common(directory, store, as_json), experiment, read_data, repair))


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be freed.")] = False,
    trash: Annotated[
        bool, typer.Option("--trash", help="Also what rm removed: undelete cannot take it back then.")
    ] = False,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Free the bytes that nobody needs any more."""
    raise typer.Exit(commands.gc(Common(directory, store, as_json), dry_run, trash))


@app.command()
def purge(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files or folders of the project.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    directory: Directory = None,
    store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Take a leaked secret or a mistaken folder out of every backup. There is no way back."""
    raise typer.Exit(commands.purge(Common(directory, store, as_json), paths, yes, dry_run))


@app.command()
def doctor(directory: Directory = None, store: StoreOption = None, as_json: Json = False) -> None:
    """Look whether git, disk, clock and store are as backups need them, and what is not covered."""
    raise typer.Exit(commands.doctor(Common(directory, store, as_json)))


def with_values(arguments: list[str]) -> list[str]:
    """`--read-data` alone means all of it: an option of typer takes a value or none, not either."""
    return ["--read-data=all" if word == "--read-data" else word for word in arguments]


def verb_first(arguments: list[str]) -> list[str]:
    """`-C DIR log` as `log -C DIR`: people who know git type it in front."""
    moved: list[str] = []
    rest = list(arguments)
    while rest and (rest[0] in ("-C", "--store", "--json") or rest[0].startswith("--store=")):
        count = 2 if rest[0] in ("-C", "--store") else 1
        moved, rest = moved + rest[:count], rest[count:]
    if not rest:
        return []
    return [*rest[:1], *moved, *rest[1:]]


def run(arguments: list[str]) -> int:
    """Parse and run; returns the exit code. A wrong call is answered like every other error."""
    command: Any = typer.main.get_command(app)
    as_json = "--json" in arguments
    arguments = with_values(verb_first(arguments))
    try:
        code = command.main(args=arguments, prog_name="tensortime", standalone_mode=False)
        return int(code or 0)
    except typer.Exit as done:
        return int(done.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return commands.INTERRUPTED
    except Exception as problem:
        # typer carries its own copy of click since 0.26: the classes have no public name, the method has.
        if not hasattr(problem, "format_message"):
            raise
        hint = "tensortime --help lists the commands"
        context = getattr(problem, "ctx", None)
        if context is not None and context.info_name != "tensortime":
            hint = f"tensortime {context.info_name} --help shows how it is called"
        error = UsageError("{problem}", problem=problem.format_message(), hint=hint)
        commands.report_error(Common(as_json=as_json), error)
        return error.exit_code
