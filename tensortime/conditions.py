"""Under which conditions two runs took place, and what of that differs: values, commands, environment, machine. Pure."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from tensortime.differences import (
    ADDED,
    CHANGED,
    OUTSIDE,
    REMOVED,
    CommandChange,
    FileChange,
    FileFacts,
    ValueChange,
)

Facts = Mapping[str, object]

DEEPEST = 8
"""Mappings in mappings are compared key by key down to here."""

NUMBER = re.compile(r"-(?:\d++(?:\.\d+)?|\.\d+)([eE][-+]?\d+)?")
ASSIGNED = re.compile(r"([+~]{0,2}[A-Za-z_][\w.@/-]*)=(.*)", re.DOTALL)
"""As Hydra takes options: `optimizer.lr=0.1`, `+seed=1`."""

OF_A_LAUNCH = re.compile(r"WORLD_SIZE$|_NNODES$|_NTASKS$|_PARTITION$")
"""What of a launch can change a result. The rest (ids, ranks, hosts) is another in every job, and no cause."""

MEMORY_NOISE = 0.01
"""By so small a part the memory of one machine differs from boot to boot."""


def flat(values: Facts, depth: int = DEEPEST) -> Iterator[tuple[str, object]]:
    """Mappings in mappings as keys with dots between."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value and depth:
            yield from ((f"{key}.{inner}", one) for inner, one in flat(value, depth - 1))
        else:
            yield str(key), value


def compare_values(old: Facts, new: Facts) -> tuple[ValueChange, ...]:
    """The keys whose values differ, or that one side lacks."""
    left, right = dict(flat(old)), dict(flat(new))
    found = []
    for key in sorted(left.keys() | right.keys()):
        if key not in left:
            found.append(ValueChange(key, ADDED, new=right[key]))
        elif key not in right:
            found.append(ValueChange(key, REMOVED, old=left[key]))
        elif not same(left[key], right[key]):
            found.append(ValueChange(key, CHANGED, left[key], right[key]))
    return tuple(found)


def same(old: object, new: object) -> bool:
    """Whether two values are equal; `true` is not 1, and nan is nan."""
    if isinstance(old, bool) is not isinstance(new, bool):
        return False
    return old == new or json.dumps(old, default=str) == json.dumps(new, default=str)


def compare_recorded(old: Facts, new: Facts) -> tuple[ValueChange, ...]:
    """As `compare_values`, of the keys alone that both recorded: what another version did not record is unknown."""
    left, right = dict(flat(old)), dict(flat(new))
    both = left.keys() & right.keys()
    return compare_values({key: left[key] for key in both}, {key: right[key] for key in both})


def command_of(run: Facts) -> tuple[str, ...] | None:
    """The command of a run; None where it is not known, or only that a person typed `tensortime backup`."""
    words = run.get("command")
    if not isinstance(words, list) or not words:
        return None
    command = tuple(str(word) for word in words)
    by_hand = "tensortime" in map(os.path.basename, command[:2])
    by_module = any(command[i : i + 2] == ("-m", "tensortime") for i in range(min(len(command), 8)))
    return None if by_hand or by_module else command


def compare_commands(old: Sequence[str], new: Sequence[str]) -> CommandChange | None:
    """Two commands, unless they are the same."""
    if tuple(old) == tuple(new):
        return None
    return CommandChange(tuple(old), tuple(new), compare_values(options_of(old), options_of(new)))


def options_of(command: Sequence[str]) -> dict[str, str]:
    """The options behind a program or script: `--lr 1`, `--lr=1`, `lr=1`, `--flag`. Those given twice are joined."""
    words, found = command[script_end(command) :], dict[str, list[str]]()
    at = 0
    while at < len(words):
        word, at = words[at], at + 1
        assigned = ASSIGNED.fullmatch(word)
        if assigned:
            found.setdefault(assigned[1], []).append(assigned[2])
        elif is_option(word):
            name, equals, value = word.partition("=")
            if (
                not equals
                and at < len(words)
                and not is_option(words[at])
                and not ASSIGNED.fullmatch(words[at])
            ):
                value, at = words[at], at + 1
            found.setdefault(name, []).append(value)
    return {name: " ".join(values) for name, values in found.items()}


def is_option(word: str) -> bool:
    """Whether a word names an option: not `-`, `--` or a negative number."""
    return word.startswith("-") and word.strip("-") != "" and NUMBER.fullmatch(word) is None


def script_end(command: Sequence[str]) -> int:
    """Where the words behind the program begin; behind Python's own options, the script counts as the program."""
    if not command or not re.match(r"python|pypy", os.path.basename(command[0])):
        return 1
    at = 1
    while at < len(command) and command[at].startswith("-"):
        if command[at] in ("-m", "-c"):
            return at + 2
        at += 2 if command[at] in ("-X", "-W") else 1
    return at + 1


def compare_environments(
    old: Facts, new: Facts, old_project: str, new_project: str
) -> tuple[ValueChange, ...]:
    """What differs between the surroundings of two run.json."""
    left, right = surroundings(old, old_project), surroundings(new, new_project)
    found = compare_recorded(left, right)
    found = tuple(one for one in found if not is_said_otherwise(one, left, right))
    launched = "launch" not in (key for run in (old, new) for key, value in run.items() if value is None)
    one, other = variables(old, launched), variables(new, launched)
    return found if one is None or other is None else found + compare_values(one, other)


def is_said_otherwise(change: ValueChange, left: Facts, right: Facts) -> bool:
    """Whether the same Python is only named in another way: `bin/python3`, found in VIRTUAL_ENV, known as 3.11."""
    if change.key == "python.version":
        shorter, longer = sorted((str(change.old), str(change.new)), key=len)
        return longer.startswith(shorter + ".")
    if change.key in ("python.executable", "python.source"):
        one, other = (
            re.sub(r"\d[\d.]*t?$", "", str(side.get("python.executable"))) for side in (left, right)
        )
        return one == other
    return False


def surroundings(run: Facts, project: str) -> dict[str, object]:
    """What a run.json says of folder, Python, and the user's git."""
    found: dict[str, object] = {}
    python, git = part(run, "python"), part(run, "git")
    for key in ("version", "implementation", "executable", "source"):
        if key in python:
            found[f"python.{key}"] = inside(str(python[key]), project) if key == "executable" else python[key]
    for key in ("head", "branch"):
        if key in git:
            found[f"git.{key}"] = git[key]
    if isinstance(run.get("cwd"), str):
        found["folder"] = inside(str(run["cwd"]), project)
    return found


def variables(run: Facts, launched: bool) -> Facts | None:
    """The variables that a run.json tells, and if `launched` of how it was launched what can matter.

    Which ones are told is a fixed list: one that is missing was not set. None where its version knew no such list.
    """
    if "machine" not in run and "environment" not in run:
        return None
    launch = part(run, "launch") if launched else {}
    launch = {key: value for key, value in launch.items() if OF_A_LAUNCH.search(str(key))}
    return {**part(run, "environment"), **launch}


def part(run: Facts, key: str) -> Facts:
    """A mapping in run.json; empty where there is none."""
    value = run.get(key)
    return value if isinstance(value, Mapping) else {}


def inside(path: str, project: str) -> str:
    """A path in the project as seen from its top, so that a moved project is still the same; others as they are."""
    top = project.rstrip("/")
    if path == top:
        return "."
    return path.removeprefix(top + "/") if top else path


def compare_outside(old: Facts, new: Facts) -> tuple[FileChange, ...]:
    """What differs behind links out of the project that are still the same links, as far as it was counted."""
    left, right = outside(old), outside(new)
    found = []
    for path in sorted(left.keys() & right.keys()):
        one, other = left[path], right[path]
        if one.target == other.target and one != other:
            found.append(FileChange(path, CHANGED, one, other))
    return tuple(found)


def outside(run: Facts) -> dict[str, FileFacts]:
    """What a run.json says of all that lies behind links out of the project, where it could be counted to the end."""
    rows, found = run.get("outside"), dict[str, FileFacts]()
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, Mapping) and row.get("complete") is True:
            size, files = row.get("bytes"), row.get("files")
            if isinstance(size, int) and isinstance(files, int):
                target, newest = str(row.get("target")), moment(str(row.get("newest")))
                found[str(row.get("path"))] = FileFacts(OUTSIDE, size, None, None, target, files, newest)
    return found


def moment(time: str) -> str:
    """An ISO time in UTC: run.json tells it in the zone of its machine."""
    try:
        return datetime.fromisoformat(time).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        return time


def compare_machines(old: Facts, new: Facts) -> tuple[ValueChange, ...]:
    """What differs between the machines of two run.json."""
    found = compare_recorded(named(old), named(new))
    one, other = part(old, "machine"), part(new, "machine")
    if not one or not other or "error" in one or "error" in other:
        return found
    # What a machine does not have is not told; what a program had loaded does not belong to the machine.
    both = "torch" in one and "torch" in other
    changes = compare_values(one, other)
    return found + tuple(
        change for change in changes if (both or not is_of(change, "torch")) and not is_noise(change)
    )


def named(run: Facts) -> dict[str, object]:
    """What a run.json calls its machine and system."""
    return {key: run[key] for key in ("platform", "host") if run.get(key)}


def is_of(change: ValueChange, key: str) -> bool:
    """Whether a change is of a key, or of one in it."""
    return change.key == key or change.key.startswith(key + ".")


def is_noise(change: ValueChange) -> bool:
    """Whether this is the same memory after another boot."""
    old, new = change.old, change.new
    if change.key != "memory" or not isinstance(old, int | float) or not isinstance(new, int | float):
        return False
    return abs(new - old) <= MEMORY_NOISE * max(abs(old), abs(new))
