"""How a recorded run is done again in another folder: its words, its folder, its variables. Pure, but for a look at files.

What led into the project then leads to the same place in the new folder: words, the current folder, PYTHONPATH. The
Python of then is used where it is still there. What tells of a host or a launch is not repeated.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tensortime.commandline import LAUNCHING_MODULES, without_assignments
from tensortime.conditions import command_of, script_end
from tensortime.errors import Message, TensorTimeError, UsageError, message
from tensortime.formats import bytes_of
from tensortime.launch import ENVIRONMENT

HIDDEN = "***"
"""What stands in place of a secret."""

OF_A_HOST = re.compile(
    r"_VISIBLE_DEVICES$|_HOME$|_CACHE(_DIR)?$|^LD_|^NCCL_(SOCKET|IB|P2P)|^HF_ENDPOINT$|^CONDA_|^VIRTUAL_ENV$|^PYENV_"
    r"|^CONTAINER_|^APPTAINER_"
)
"""Variables that tell where things are on one host: another has them elsewhere."""

OWN = ("TENSORTIME_EXPERIMENT", "TENSORTIME_RUNNER", "TENSORTIME_STORE")
"""Variables with which a run marks what belongs to it."""

ACTIVE = ("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV")
"""Variables that name the environment that a shell works in."""

PYTHON = re.compile(r"python|pypy")
LAUNCHES = {*LAUNCHING_MODULES, "accelerate"}
"""Modules whose own arguments come before the script."""


@dataclass(frozen=True)
class Recipe:
    """What is to be run, where, and with which variables."""

    words: tuple[str, ...]
    folder: str
    environment: Mapping[str, str]
    notes: tuple[Message, ...] = ()
    """What cannot be as it was."""


@dataclass(frozen=True)
class Move:
    """From the project where a run took place to the folder where it takes place again."""

    project: str
    folder: str
    there: str

    def path(self, text: str) -> str:
        """A path, or a list of paths, with what lies in the project at its new place."""
        parts = text.split(os.pathsep)
        return os.pathsep.join(self.inside(part) or part for part in parts)

    def inside(self, text: str) -> str | None:
        """Where an absolute path of the project is now; None for all others."""
        if text == self.project or (self.project and text.startswith(self.project + "/")):
            return self.there + text.removeprefix(self.project)
        return None

    def word(self, text: str) -> str:
        """A word of a command: a path itself, or behind a `=`."""
        option, equals, value = text.partition("=")
        return (
            option + equals + self.path(value) if equals and not option.startswith("/") else self.path(text)
        )

    def relative(self, text: str) -> str:
        """A word that is a path seen from a folder outside of the project and leads into it."""
        full = os.path.normpath(os.path.join(self.folder, text))
        return self.inside(full) or text


def recipe_of(
    run: Mapping[str, object],
    project: str,
    there: str,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    *,
    name: str,
    python: str | None = None,
    path: Sequence[str] = (),
) -> Recipe:
    """How to do again in the folder `there` what a run.json of a project recorded, for the experiment `name`.

    `arguments`: in place of those behind the script; the whole command where none is recorded. `python`: another Python
    than the recorded one. `path`: folders that Python shall search first. UsageError where the command cannot be known.
    """
    given, words = words_of(run, arguments, name)
    cwd = run.get("cwd")
    then = Move(as_typed(project).rstrip("/"), as_typed(cwd) if isinstance(cwd, str) else "", there)
    inside = then.inside(then.folder)
    notes = list[Message]()
    if inside is None:
        words = (words[0], *(then.relative(word) for word in words[1:]))
        if then.folder:
            notes.append(
                message(
                    "it ran in {folder}, outside of the project; now it runs in the new folder",
                    folder=then.folder,
                )
            )
    launch = run.get("launch")
    ranks = launch.get("WORLD_SIZE") if isinstance(launch, Mapping) else None
    if isinstance(ranks, str) and ranks.isdecimal() and int(ranks) > 1:
        notes.append(
            message("it was one of {count} processes of a launcher; now it runs alone", count=int(ranks))
        )
    program = words[0] if python_named(words[0]) else then.word(words[0])
    recipe = Recipe(
        (program, *(then.word(word) for word in words[1:])),
        inside or there,
        {**variables_of(run, then, environ), **given},
    )
    if path:
        environ = {**recipe.environment, "PYTHONPATH": searched_first(path, recipe.environment)}
        recipe = replace(recipe, environment=environ)
    return with_python(replace(recipe, notes=tuple(notes)), run, python)


def searched_first(path: Sequence[str], environ: Mapping[str, str]) -> str:
    """The PYTHONPATH with which Python searches these folders before what it has."""
    return os.pathsep.join([*path, *filter(None, [environ.get("PYTHONPATH")])])


def as_typed(text: str) -> str:
    """A recorded text as this process spells it. UsageError for what no system takes: somebody made the record up."""
    with contextlib.suppress(UnicodeEncodeError):
        typed = os.fsdecode(bytes_of(text))
        if "\0" not in typed:
            return typed
    raise UsageError(
        "the record of this run holds what no command can be", hint="it was not made by tensortime"
    )


def words_of(
    run: Mapping[str, object], arguments: Sequence[str], name: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The words to run, and the variables that were set in front of them. UsageError where they are not known, or hold
    what was hidden, or what only a shell knew."""
    command = command_of(run)
    if command is None or run.get("notebook"):
        if arguments and not run.get("notebook"):
            return {}, tuple(arguments)
        raise UsageError(
            "{name} has no command that can be run again",
            name=name,
            hint=message("restore it, and run what you like there: tensortime restore {name}", name=name)
            if run.get("notebook")
            else message("say which: tensortime rerun {name} -- CMD…", name=name),
        )
    typed = tuple(as_typed(word) for word in command)
    is_line = run.get("as_line") is True
    words = tuple(map(os.path.expanduser, without_assignments([*typed]))) if is_line else typed
    given = dict(word.split("=", 1) for word in typed[: len(typed) - len(words)])
    end = arguments_at(words)
    if python_named(words[0]) and end > len(words):
        raise UsageError(
            "{name} was typed into Python, and not kept as a script",
            name=name,
            hint=message("say what to run: tensortime restore {name}, and run it there", name=name),
        )
    if arguments:
        words = (*words[:end], *arguments)
    if is_line:
        refuse_expanded((*given.values(), *words[: len(words) - len(arguments)]), name)
    if any(HIDDEN in word for word in (*given.values(), *words)):
        raise UsageError(
            "a secret in the command of {name} was not recorded",
            name=name,
            hint=message("give its arguments again: tensortime rerun {name} -- ARGUMENTS", name=name),
        )
    return given, words


def refuse_expanded(words: Sequence[str], name: str) -> None:
    """UsageError for a word of a typed line in whose place the shell put another one, which nobody recorded."""
    word = next((word for word in words if "$" in word or "`" in word), None)
    if word is not None:
        raise UsageError(
            "what the shell made of {word} in the command of {name} was not recorded",
            word=word,
            name=name,
            hint=message("give its arguments again: tensortime rerun {name} -- ARGUMENTS", name=name),
        )


def arguments_at(words: Sequence[str]) -> int:
    """Where the arguments begin: behind the script or module that runs, or else behind the program."""
    start = script_end(words) if python_named(words[0]) else 1
    if python_named(words[0]) and words[start - 1 : start] and words[start - 1] not in LAUNCHES:
        return start
    for at in range(start, len(words)):
        if words[at].endswith(".py"):
            return at + 1
        if words[at] == "-m" and at + 1 < len(words):
            return at + 2
    return start


def python_named(word: str) -> bool:
    """Whether a program is a Python, by its name."""
    return PYTHON.match(os.path.basename(word)) is not None


def variables_of(run: Mapping[str, object], then: Move, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of now, with those of then that can change a result and tell nothing of a host."""
    found = {name: value for name, value in environ.items() if name not in OWN}
    recorded = run.get("environment")
    if not isinstance(recorded, Mapping):
        recorded = {}
        if "machine" not in run:
            return found  # made by a version that recorded none
    for name in ENVIRONMENT:
        value = recorded.get(name)
        if OF_A_HOST.search(name) or (isinstance(value, str) and HIDDEN in value):
            continue
        found.pop(name, None)
        if isinstance(value, str):
            found[name] = then.path(as_typed(value)) if name == "PYTHONPATH" else as_typed(value)
    return found


def with_python(recipe: Recipe, run: Mapping[str, object], wanted: str | None) -> Recipe:
    """A recipe that finds the Python of then, or the one that is wanted in its place, before any other."""
    facts = run.get("python")
    told = facts.get("executable") if isinstance(facts, Mapping) else None
    python = wanted or (as_typed(told) if isinstance(told, str) else None)
    first, *others = recipe.words
    if python is None or not is_program(python):
        if not python_named(first) or is_program(
            os.path.join(recipe.folder, first) if "/" in first else first
        ):
            return recipe
        found = shutil.which(os.path.basename(first), path=recipe.environment.get("PATH")) or ""
        note = message(
            "the Python of then is not here: {path}; now it is {now}", path=python or first, now=found or "?"
        )
        words = (os.path.basename(first), *others)
        return (
            replace(recipe, words=words, notes=(*recipe.notes, note))
            if found
            else replace(recipe, words=words)
        )
    folder = os.path.dirname(python)
    if python_named(first):
        named = os.path.join(folder, os.path.basename(first))
        first = os.path.basename(first) if os.path.realpath(named) == os.path.realpath(python) else python
    environ = with_folder(recipe.environment, folder)
    prefix, recorded = os.path.dirname(folder), run.get("environment")
    then = recorded if isinstance(recorded, Mapping) else {}
    known = {"VIRTUAL_ENV": prefix} if wanted is not None else then
    # Tools look for their environment there, but only of then.
    environ |= {name: prefix for name in ACTIVE if known.get(name) == prefix}
    return replace(recipe, words=(first, *others), environment=environ)


def is_program(path: str) -> bool:
    """Whether something can be started by this path."""
    return "/" in path and os.path.isfile(path) and os.access(path, os.X_OK)


def with_folder(environ: Mapping[str, str], folder: str) -> dict[str, str]:
    """Variables under which the programs of a Python's folder are found first, and no other environment is active."""
    found = {name: value for name, value in environ.items() if name not in (*ACTIVE, "PYTHONHOME")}
    found["PATH"] = os.pathsep.join([folder, environ.get("PATH", os.defpath)])
    return found


def refuse_unusable(recipe: Recipe) -> None:
    """TensorTimeError where the folder that it is to run in cannot be made."""
    try:
        os.makedirs(recipe.folder, exist_ok=True)
    except OSError as problem:
        raise TensorTimeError(
            "{path} cannot be made: {problem}", path=recipe.folder, problem=problem.strerror
        ) from problem
