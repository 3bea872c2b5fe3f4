"""What a store holds: its experiments, their backups, and what a name means. Reads only."""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from tensortime.cycles import no_cycle_search
from tensortime.errors import (
    AmbiguousName,
    BadName,
    Damaged,
    GitFailed,
    Message,
    TensorTimeError,
    UnknownExperiment,
    message,
)
from tensortime.experiments import SUBMITTED, DamagedRef, Experiment
from tensortime.formats import META, Digest, Oid, bytes_of, text_of
from tensortime.names import ExperimentName
from tensortime.shadow import Ref, Shadow, TreeItem, message_of
from tensortime.trailers import BackupFacts, decode_message

if TYPE_CHECKING:
    from tensortime.chronicle import HistoryEntry
    from tensortime.manifest import Manifest
    from tensortime.reports import Lost, Skipped

EXPERIMENTS = "refs/experiments/"
TAGS = "refs/tags/"
TRASH = "refs/trash/"
PINS = "refs/pins/"

GIT_FOUND_DAMAGE = (
    *(
        "unable to read",
        "could not read",
        "cannot read",
        "corrupt",
        "missing",
        "bad object",
        "inflate",
        "garbage at",
    ),
    *(
        "too small",
        "too short",
        "not a tree",
        "not a valid",
        "mismatch",
        "does not match",
        "too-short",
        "malformed",
        "non-monotonic",
        "not a git packfile",
        "claims to have",
    ),
)
"""Words with which git says, in lower case, that an object, pack or idx is not what it should be."""


class Catalog(NamedTuple):
    """All experiments of a store, newest first, and the refs that name no readable one."""

    experiments: tuple[Experiment, ...]
    damaged: tuple[DamagedRef, ...]

    def find(self, name: str) -> Experiment | None:
        """The experiment of exactly this name."""
        return next((one for one in self.experiments if one.name == name), None)

    def newest_time_ns(self) -> int:
        """The largest known time; 0 for an empty store."""
        return max((one.time_ns for one in self.experiments), default=0)

    def taken_names(self) -> set[str]:
        """All names that are in use, damaged ones too, in lower case: two that differ only in case are twins."""
        broken = (one.ref.removeprefix(EXPERIMENTS) for one in self.damaged)
        return {name.lower() for name in (*(one.name for one in self.experiments), *broken)}


class Target(NamedTuple):
    """One backup of one experiment, as a person named it."""

    experiment: Experiment
    number: int
    commit: Oid


def experiment_ref(name: ExperimentName) -> str:
    """The full ref of an experiment."""
    return EXPERIMENTS + name


@no_cycle_search()
def read_catalog(shadow: Shadow) -> Catalog:
    """All experiments, in one git process."""
    with damaged_list():
        listed = shadow.refs(EXPERIMENTS, TAGS)
    tags = tags_among(listed.refs)
    found: list[Experiment] = []
    damaged = [
        DamagedRef(name, "the ref is empty or broken") for name in listed.broken if EXPERIMENTS in name
    ]
    for ref in listed.refs:
        if ref.name.startswith(EXPERIMENTS):
            read = read_experiment(ref, tags.get(ref.name.removeprefix(EXPERIMENTS), ()))
            (found if isinstance(read, Experiment) else damaged).append(read)  # type: ignore[arg-type]
    found.sort(key=lambda one: (one.time_ns, one.name), reverse=True)
    return Catalog(tuple(found), tuple(damaged))


@contextlib.contextmanager
def damaged_list() -> Iterator[None]:
    """What git cannot list of the refs in here is damage that a person can mend."""
    try:
        yield
    except GitFailed as problem:
        if "packed-refs" not in str(problem):
            raise
        raise Damaged(
            "the list of experiments is damaged: {problem}",
            problem=str(problem),
            hint="tensortime verify --repair keeps what it still says, and finds the other backups again",
        ) from problem


def tags_among(refs: Iterable[Ref]) -> dict[str, list[str]]:
    """The tags of each experiment that has some."""
    tags: dict[str, list[str]] = {}
    for ref in refs:
        if ref.name.startswith(TAGS):
            name, _, tag = ref.name.removeprefix(TAGS).rpartition("/")
            tags.setdefault(name, []).append(tag)
    return tags


def of_project(catalog: Catalog, project: str) -> Catalog:
    """The experiments of one project in a store of several, and those that were made in their worktrees."""
    own: set[str] = set()
    for one in reversed(catalog.experiments):
        if bytes_of(one.project) == os.fsencode(project) or one.parent.rpartition(":")[0] in own:
            own.add(one.name)
    return Catalog(tuple(one for one in catalog.experiments if one.name in own), catalog.damaged)


def read_experiment(ref: Ref, tags: Sequence[str]) -> Experiment | DamagedRef:
    """The experiment behind a ref."""
    try:
        name = ExperimentName(ref.name.removeprefix(EXPERIMENTS))
    except BadName:
        return DamagedRef(ref.name, "not a name that TensorTime gives")
    if ref.commit is None:
        return DamagedRef(ref.name, f"its commit {ref.oid[:12]} is missing or damaged")
    try:
        facts = decode_message(message_of(ref.commit))
    except ValueError as problem:
        return DamagedRef(ref.name, f"its commit {ref.oid[:12]} is no backup: {problem}")
    found = described(name, ref.oid, facts, tuple(sorted(tags)))
    return replace(found, status=status_now(facts)) if facts.runner else found


def status_now(facts: BackupFacts) -> str:
    """The status of an experiment whose command is running, as far as its newest backup knows."""
    from tensortime.processes import is_gone  # only where a command runs

    if "submitted" in facts.runner and facts.status == "running":
        # Nobody sees from here when a job begins, or that it has ended without a word.
        return SUBMITTED
    return "interrupted" if is_gone(facts.runner) else facts.status


def described(name: ExperimentName, commit: Oid, facts: BackupFacts, tags: tuple[str, ...]) -> Experiment:
    """An experiment as the facts of one of its backups tell it."""
    return Experiment(
        name=name,
        commit=commit,
        note=facts.note,
        time_ns=facts.time_ns,
        backups=facts.number,
        files=facts.files,
        bytes=facts.size,
        parent=facts.parent,
        status=facts.status,
        project=facts.project,
        tags=tags,
        params=facts.params,
        metrics=facts.metrics,
        runner=facts.runner,
    )


def read_facts(shadow: Shadow, commit: Oid) -> BackupFacts:
    """The facts of one backup; Damaged if its commit is no backup."""
    for _, raw in shadow.read_objects([commit], missing_ok=True):
        try:
            return decode_message(message_of(raw))
        except ValueError as problem:
            raise Damaged(
                "the commit {oid} is no backup: {problem}", oid=commit, problem=str(problem)
            ) from problem
    raise Damaged("the commit {oid} is missing or damaged", oid=commit)


def read_history(shadow: Shadow, tip: Oid) -> tuple["HistoryEntry", ...]:
    """The backups of an experiment, newest first; edits (same number, later commit) hide what they edit."""
    from tensortime.chronicle import HistoryEntry  # nor does that read a history

    entries: dict[int, HistoryEntry] = {}
    for oid, raw in shadow.read_objects(shadow.lineage(tip), missing_ok=True):
        try:
            facts = decode_message(message_of(raw))
        except ValueError:
            continue
        entry = HistoryEntry(facts.number, Oid(oid), facts.time_ns, facts.files, facts.size)
        entries.setdefault(facts.number, entry)
    return tuple(entries[number] for number in sorted(entries, reverse=True))


def damage_in(target: Target) -> contextlib.AbstractContextManager[None]:
    """Damage that shows up in here says which experiment it is in, also where only git has noticed it."""
    return damage_of(target.experiment.name)


@contextlib.contextmanager
def damage_of(name: ExperimentName) -> Iterator[None]:
    """As `damage_in`, of an experiment by its name."""
    try:
        yield
    except GitFailed as problem:
        if not any(words in str(problem).lower() for words in GIT_FOUND_DAMAGE):
            raise
        raise Damaged(
            "{experiment} is damaged: {problem}", experiment=name, problem=str(problem)
        ) from problem
    except Damaged as problem:
        if "experiment" in problem.message.values:
            raise
        text = str(problem)
        raise Damaged(
            "{experiment} is damaged: {problem}", experiment=name, problem=text, hint=problem.hint
        ) from problem


def resolve(shadow: Shadow, catalog: Catalog, text: str) -> Target:
    """The backup that a person means: `name`, a unique prefix or part of one, `@`, `@~2`, each with `:n`.

    UnknownExperiment, AmbiguousName; Damaged for an experiment whose ref is broken.
    """
    if not text.partition(":")[0].strip():
        raise UnknownExperiment("the name is empty", hint="@ is the newest; tensortime log lists all")
    name, colon, number = text.rpartition(":")
    if colon and number.isdecimal() and name:
        experiment = resolve_experiment(catalog, name)
        return numbered(shadow, experiment, int(number))
    experiment = resolve_experiment(catalog, text)
    return Target(experiment, experiment.backups, experiment.commit)


def numbered(shadow: Shadow, experiment: Experiment, number: int) -> Target:
    """Backup `number` of an experiment."""
    with damage_of(experiment.name):
        entries = read_history(shadow, experiment.commit)
    for entry in entries:
        if entry.number == number:
            return Target(experiment, number, entry.commit)
    raise UnknownExperiment(
        "{name} has no backup {number}, only {known}",
        name=experiment.name,
        number=number,
        known=numbers_text(experiment.backups),
        hint=message("tensortime show {name} lists them", name=experiment.name),
    )


def numbers_text(count: int) -> Message | str:
    """The numbers of so many backups, in words."""
    if count > 2:
        return message("1 to {count}", count=count)
    return "1" if count == 1 else message("1 and 2")


def resolve_experiment(catalog: Catalog, text: str) -> Experiment:
    """The experiment that a person means."""
    relative = re.fullmatch(r"@(?:~(\d{1,9}))?", text)
    if relative:
        return counted_back(catalog, int(relative.group(1) or 0), text)
    exact = catalog.find(text)
    if exact is not None:
        return exact
    broken = next((one for one in catalog.damaged if one.ref == EXPERIMENTS + text), None)
    if broken is not None:
        raise Damaged("the experiment {name} is damaged: {reason}", name=text, reason=broken.reason)
    for candidates in (
        [one for one in catalog.experiments if one.name.startswith(text)],
        # What a person remembers is the end, behind the date: `-ok` is not `-ok2`.
        [one for one in catalog.experiments if one.name.endswith("-" + text)],
        [one for one in catalog.experiments if text in one.name],
        [one for one in catalog.experiments if text.lower() in one.name.lower()],
    ):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            names = ", ".join(one.name for one in candidates[:5]) + (", …" if len(candidates) > 5 else "")
            raise AmbiguousName(
                "{text} could be {count} experiments: {names}",
                text=text,
                count=len(candidates),
                names=names,
                hint="type more of the name; @ is the newest",
            )
    raise UnknownExperiment("no experiment is called {text}", text=text[:80], hint=near_names(catalog, text))


def counted_back(catalog: Catalog, steps: int, text: str) -> Experiment:
    """The newest experiment, or one some steps before it."""
    if not catalog.experiments:
        raise UnknownExperiment("there is no experiment yet", hint="tensortime backup makes the first")
    if steps >= len(catalog.experiments):
        raise UnknownExperiment(
            "{text} goes back too far: there are {count} experiments",
            text=text,
            count=len(catalog.experiments),
            hint="tensortime log lists all",
        )
    return catalog.experiments[steps]


def near_names(catalog: Catalog, text: str) -> Message | str:
    """A hint with the names nearest to a mistyped one."""
    import difflib  # only for an error

    near = difflib.get_close_matches(text, [one.name for one in catalog.experiments], 3, 0.5)
    if not near:
        # Names begin with a date: what was mistyped is often only the end of one.
        tails = {one.name.partition("-")[2][-len(text) - 2 :]: one.name for one in catalog.experiments}
        near = [tails[tail] for tail in difflib.get_close_matches(text, tails, 3, 0.6)]
    if len(near) > 1:
        return message("did you mean one of these: {names}?", names=", ".join(near))
    if near:
        return message("did you mean {name}?", name=near[0])
    return "tensortime log lists all"


def read_meta(shadow: Shadow, items: Iterable[TreeItem]) -> dict[bytes, bytes]:
    """The files below `.tensortime/` of a tree, by their path in it; Damaged if one cannot be read."""
    prefix = META + b"/"
    wanted = {
        item.path.removeprefix(prefix): item.oid.hex()
        for item in items
        if item.path.startswith(prefix) and item.mode == 0o100644
    }
    contents = dict(shadow.read_objects(sorted(set(wanted.values())), missing_ok=True))
    for name, oid in wanted.items():
        if oid not in contents:
            raise Damaged("{path} is missing or damaged in the store", path=text_of(META + b"/" + name))
    return {name: contents[oid] for name, oid in wanted.items()}


def run_of(meta: Mapping[bytes, bytes]) -> dict[str, object]:
    """run.json among the files of `.tensortime/`; empty where it cannot be read."""
    try:
        run = json.loads(meta.get(b"run.json", b"{}"))
    except (ValueError, RecursionError):
        return {}
    return run if isinstance(run, dict) else {}


def runs_of(shadow: Shadow, commits: Iterable[Oid]) -> dict[int, Mapping[str, object]]:
    """The run.json of backups, by their numbers; one that cannot be read is missing."""
    names = [f"{commit}:{text_of(META)}/run.json" for commit in commits]
    runs = [run_of({b"run.json": data}) for _, data in shadow.read_objects(names, missing_ok=True)]
    return {number: run for run in runs if isinstance(number := run.get("backup"), int)}


def skipped_in(run: Mapping[str, object]) -> tuple["Skipped", ...]:
    """What a backup should have stored and could not."""
    from tensortime.reports import Skipped

    rows = run.get("skipped")
    found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return tuple(Skipped(str(row.get("path", "?")), str(row.get("reason", "?"))) for row in found)


def manifest_of(meta: Mapping[bytes, bytes]) -> "Manifest":
    """The manifest among the files of `.tensortime/`."""
    from tensortime.manifest import decode_manifest  # who lists the experiments reads none

    return decode_manifest(
        {name: data for name, data in meta.items() if name == b"manifest" or name.startswith(b"manifest.d/")}
    )


def losses(shadow: Shadow, catalog: Catalog, digests: Sequence[Digest]) -> tuple["Lost", ...]:
    """The paths whose bytes were these objects, and the experiments that hold them. Reads every backup."""
    from tensortime.reports import Lost

    if not digests:
        return ()
    holders: dict[str, dict[str, None]] = {}
    for experiment in catalog.experiments:
        # What is damaged otherwise must not keep anybody from hearing what the others have lost.
        with contextlib.suppress(TensorTimeError):
            for entry in read_history(shadow, experiment.commit):
                manifest = manifest_of(read_meta(shadow, shadow.tree(entry.commit)))
                for row in manifest.large():
                    if row.digest in digests:
                        holders.setdefault(text_of(row.path), {})[experiment.name] = None
    return tuple(Lost(path, tuple(names)) for path, names in sorted(holders.items()))
