"""What a shell offers when a person presses TAB, and the scripts with which shells ask for it.

From the words typed so far to candidates: verbs and options from a plain table, experiments from one look at the refs,
paths from one folder of a backup. Whatever goes wrong, nothing is offered, and nothing is said.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tensortime.verbs import VERBS, Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tensortime.history import Catalog, Target
    from tensortime.messages import Translator
    from tensortime.store import Store

SHELLS = {
    "bash": ("~/.bashrc", 'eval "$(tensortime completion bash)"'),
    "zsh": ("~/.zshrc", 'eval "$(tensortime completion zsh)"'),
    "fish": ("~/.config/fish/config.fish", "tensortime completion fish | source"),
}
"""Where each shell looks for the line that loads completion."""

COMMON = ("-C", "--store", "--json")
"""Options that may stand before the verb."""

HELP = Option(("--help", "-h"), None, "Show this and exit.")
HOWS = ("auto", "reflink", "copy", "hardlink", "symlink")
WIDEST = 60
"""Cells of a description."""

FILES, FOLDERS = "files", "folders"
"""What the shell completes by itself."""


class Candidate(NamedTuple):
    """One word that could stand there, and what it is. An empty word leaves files or folders to the shell."""

    word: str
    about: str = ""


class Typed(NamedTuple):
    """What the words before the cursor say."""

    verb: str = ""
    arguments: tuple[str, ...] = ()
    flags: frozenset[str] = frozenset()
    """Options that were given."""
    directory: str | None = None
    store: str | None = None
    current: str = ""
    """The word at the cursor, without an option and its `=`."""
    before: str = ""
    """That option and its `=`."""
    value: str | None = None
    """What stands for the value of the option, if this word is one."""
    plain: bool = False
    """`--` was given: no word is an option."""


def understood(words: Sequence[str]) -> Typed:
    """The words of a command line up to the cursor, its program first."""
    typed, pending = Typed(), None
    for word in words[1:-1]:
        if pending is not None:
            typed, pending = with_option(typed, pending, word), None
        elif word == "--" and not typed.plain:
            typed = typed._replace(plain=True)
        elif typed.verb == "run" and not typed.plain and not word.startswith("-"):
            typed = typed._replace(plain=True, arguments=(*typed.arguments, word))  # the command begins
        elif word.startswith("-") and len(word) > 1 and not typed.plain:
            name, equals, value = word.partition("=")
            option = option_called(typed.verb, name)
            takes = option is not None and option.value is not None
            pending = name if takes and not equals and not is_optional(option) else None
            typed = with_option(typed, name, value)
        elif not typed.verb:
            typed = typed._replace(verb=word)
        else:
            typed = typed._replace(arguments=(*typed.arguments, word))
    current = words[-1] if len(words) > 1 else ""
    if pending is not None:
        option = option_called(typed.verb, pending)
        return typed._replace(current=current, value=option.value if option else None)
    name, equals, value = current.partition("=")
    option = option_called(typed.verb, name) if equals and name.startswith("--") else None
    if option is not None and not typed.plain:
        return typed._replace(current=value, before=name + equals, value=option.value or "")
    return typed._replace(current=current)


def with_option(typed: Typed, name: str, value: str) -> Typed:
    """As typed, with one option more."""
    typed = typed._replace(flags=typed.flags | {name})
    if name == "-C":
        return typed._replace(directory=os.path.expanduser(value) or None)
    if name == "--store":
        return typed._replace(store=os.path.expanduser(value) or None)
    return typed


def options_of(verb: str) -> tuple[Option, ...]:
    """The options of a verb, or those that may stand before it."""
    if verb in VERBS:
        return (*VERBS[verb].options, HELP)
    return (*(one for one in VERBS["log"].options if one.names[0] in COMMON), HELP)


def option_called(verb: str, name: str) -> Option | None:
    """The option of this name."""
    return next((one for one in options_of(verb) if name in one.names), None)


def is_optional(option: Option | None) -> bool:
    """Whether its value is only taken behind a `=`."""
    return option is not None and (option.value or "").startswith("[=")


def wanted(typed: Typed) -> str:
    """What stands at the cursor: `verb`, `option`, or what the help calls it (`EXP`, `PATH`, `DIR`)."""
    if typed.value is not None:
        return typed.value
    if typed.current.startswith("-") and not typed.plain:
        return "option"
    if not typed.verb:
        return "verb"
    names = VERBS[typed.verb].arguments if typed.verb in VERBS else ()
    if len(typed.arguments) < len(names):
        return names[len(typed.arguments)].rstrip(".")
    return names[-1].rstrip(".") if names and names[-1].endswith("...") else ""


def candidates(typed: Typed) -> Iterator[Candidate]:
    """What could stand at the cursor."""
    what = wanted(typed)
    if what in ("DIR", "DEST"):
        yield Candidate("", FOLDERS)
    elif what == "COMMAND" or (what == "PATH" and typed.verb in ("backup", "purge", "run")):
        yield Candidate("", FILES)
    elif what in ("SHELL", "HOW"):
        yield from (Candidate(word) for word in (SHELLS if what == "SHELL" else HOWS))
    elif what in ("verb", "option"):
        yield from of_the_table(typed, what)
    elif what in ("EXP", "A", "B", "PATH", "TAG"):
        yield from of_the_store(typed, what)


def of_the_table(typed: Typed, what: str) -> Iterator[Candidate]:
    """Verbs or options, each with the line that help has for it."""
    from tensortime import language

    tr = language.translator(typed.directory, typed.store)
    if what == "verb":
        yield from (Candidate(name, tr.known(verb.help)) for name, verb in VERBS.items())
        return
    for one in options_of(typed.verb):
        yield from (Candidate(name, tr.known(one.help)) for name in one.names if name.startswith("--"))
        if not any(name.startswith("--") for name in one.names):
            yield Candidate(one.names[0], tr.known(one.help))


def of_the_store(typed: Typed, what: str) -> Iterator[Candidate]:
    """Experiments, tags, or paths of a backup, as the store has them."""
    from tensortime import history, language, lookup
    from tensortime.store import open_store

    place, _ = lookup.locate(typed.directory, typed.store)
    opened = open_store(place.store)
    if what not in ("PATH", "TAG"):
        tr = language.translator(typed.directory, typed.store)
        yield from experiments(typed, lookup.visible(place, opened)[0], opened, tr)
    elif what == "PATH":
        target = lookup.resolve(place, opened, typed.arguments[0])
        yield from paths(opened, target, typed.current)
    else:
        known = history.read_catalog(opened.shadow).experiments
        if "--remove" in typed.flags:
            known = (lookup.resolve(place, opened, typed.arguments[0]).experiment,)
        yield from (Candidate(tag) for tag in sorted({tag for one in known for tag in one.tags}))


def experiments(typed: Typed, catalog: "Catalog", opened: "Store", tr: "Translator") -> Iterator[Candidate]:
    """Experiments that are not named yet, newest first; behind `NAME:` its backups."""
    if typed.verb == "undelete":
        from tensortime.trash import read_trash

        yield from (
            Candidate(one.experiment.name, one.experiment.note) for one in read_trash(opened.shadow).entries
        )
        return
    name, colon, _ = typed.current.rpartition(":")
    if colon:
        found = catalog.experiments[:1] if name == "@" else [one for one in [catalog.find(name)] if one]
        for one in found:
            yield from (Candidate(f"{name}:{number}") for number in range(one.backups, 0, -1))
        return
    if catalog.experiments:
        newest = catalog.experiments[0]
        yield Candidate("@", tr("the newest: {name}", name=newest.name))
    for one in catalog.experiments:
        if one.name not in typed.arguments:
            yield Candidate(one.name, one.note)


def paths(opened: "Store", target: "Target", current: str) -> Iterator[Candidate]:
    """One level of a backup's files: those in the folder that is typed already."""
    from tensortime.formats import META, bytes_of, text_of
    from tensortime.history import manifest_of, read_meta

    folder, slash, beginning = current.rpartition("/")
    above = bytes_of(folder + slash)
    found = {
        name + (b"/" if is_folder else b"")
        for name, is_folder in opened.shadow.folder(target.commit, above.rstrip(b"/"))
    }
    manifest = manifest_of(read_meta(opened.shadow, opened.shadow.tree(target.commit, META)))
    for path, entry in manifest.entries.items():
        if path.startswith(above):
            name, deeper, _ = path.removeprefix(above).partition(b"/")
            found.add(name + (b"/" if deeper or entry.kind == "dir" else b""))
    for name in sorted(found):
        if not name.startswith(b".") or beginning.startswith("."):
            yield Candidate(text_of(above + name))


def offered(typed: Typed) -> list[Candidate]:
    """The candidates that begin as the word does; else the only one that holds it, as a person may type it."""
    current = typed.current
    found = [one for one in candidates(typed) if one.word.isprintable()]
    begin = [one for one in found if not one.word or one.word.startswith(current)]
    holding = [one for one in found if current in one.word]
    chosen = begin or (holding if len(holding) == 1 and wanted(typed) in ("EXP", "A", "B") else [])
    return [one._replace(word=typed.before + one.word if one.word else "") for one in chosen]


def answer_words(arguments: Sequence[str]) -> int:
    """`tensortime completion --words INDEX -- WORD…`: a candidate a line, TAB, what it is."""
    with contextlib.suppress(BaseException):  # a person is typing: whatever it is, it must not be in the way
        from tensortime.lookup import as_meant
        from tensortime.text import fit, printable

        index, words = int(arguments[0]), [as_meant(word) for word in arguments[2:]]
        words = [*words[:index], words[index] if index < len(words) else ""]
        lines = [
            f"{one.word}\t{fit(printable(one.about.partition(chr(10))[0]), WIDEST)}\n"
            for one in offered(understood(words))
        ]
        sys.stdout.buffer.write("".join(lines).encode())
        sys.stdout.buffer.flush()
    return 0


def answer(shell: str | None) -> int:
    """`tensortime completion`: the script, or where there is none for this shell, as a wrong call, how it is called."""
    from tensortime.errors import UsageError
    from tensortime.hook import print_script, put_lines_for_shells

    if shell in SHELLS:
        return print_script(str(shell), "completion")
    if shell is None:
        error = UsageError(
            "completion needs the name of your shell", hint="put the line of your shell into its file:"
        )
    else:
        error = UsageError(
            "there is no completion for {shell}", shell=shell, hint="put one of these into its file:"
        )
    return put_lines_for_shells(error, SHELLS)
