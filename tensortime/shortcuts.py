"""The verbs typed most, understood without typer, whose import takes longer than most of what they do.

Only a call that is understood completely is answered here. Every other one (wrong, shortened, asking for help) goes to
typer as it was typed, and what is said about it is typer's.
"""

import gc
from typing import Any

from tensortime.cycles import no_cycle_search
from tensortime.verbs import VERBS

TYPED_MOST = ("backup", "restore", "log", "show", "diff", "run")
MOST_DIGITS = 9
"""Of a number that is understood here."""


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


def parsed(verb: str, words: list[str]) -> tuple[list[str], dict[str, Any]] | None:
    """The arguments of a call, and what its options got, by their first name; None: it is not understood."""
    declared = VERBS[verb]
    options = {name: option for option in declared.options for name in option.names}
    arguments: list[str] = []
    values: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        if word == "--":
            arguments += rest
            break
        if not word.startswith("-"):
            arguments.append(word)
            if verb == "run":  # what is behind the command is the command's
                arguments += rest
            continue
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        option = options.get(name)
        if option is None or (option.value is None and equals):
            return None
        key = option.names[0]
        if option.value is None:
            values[key] = True
            continue
        if not equals:
            behind = next(rest, None)
            if behind is None:
                return None
            value = behind
        if option.repeats:
            values.setdefault(key, []).append(value)
        elif option.value != "N":
            values[key] = value
        elif value.isdecimal() and len(value) <= MOST_DIGITS and int(value) > 0:
            values[key] = int(value)
        else:
            return None
    many = any(name.endswith("...") for name in declared.arguments)
    fits = declared.needed <= len(arguments) and (many or len(arguments) <= len(declared.arguments))
    return (arguments, values) if fits else None


def answer(typed: list[str]) -> int | None:
    """Do what was typed, and return the exit code; None where typer is to look at it."""
    verb, *words = verb_first(typed) or [""]
    if verb not in TYPED_MOST:
        return None
    understood = parsed(verb, words)
    if understood is None:
        return None
    # Nothing that is loaded here is garbage: not to look for any saves a tenth of the time.
    with no_cycle_search():
        from tensortime import commands

        gc.freeze()
    arguments, values = understood
    second = arguments[1] if len(arguments) > 1 else None
    get = values.get
    common = commands.Common(get("-C"), get("--store"), get("--json", False))
    if verb == "backup":
        add, ignore = get("--add", []), get("--ignore", [])
        return commands.backup(common, get("--note", ""), get("--name"), add, ignore, get("--rehash", False))
    if verb == "restore":
        return commands.restore(common, arguments[0], second, get("--path", []), get("--link", "auto"))
    if verb == "log":
        asked = {"where": get("--filter"), "since": get("--since"), "sort": get("--sort")}
        return commands.log(common, get("-n"), get("--all", False), **asked, reverse=get("--reverse", False))
    if verb == "show":
        return commands.show(common, arguments[0], second)
    if verb == "diff":
        return commands.diff(common, arguments[0] if arguments else "@", second, get("--patch", False))
    from tensortime import running_commands

    note, name, tags, add = get("--note", ""), get("--name"), get("--tag", []), get("--add", [])
    folder = get("--isolated", False), get("--keep", False)
    return running_commands.run(common, arguments, note, name, tags, add, *folder)
