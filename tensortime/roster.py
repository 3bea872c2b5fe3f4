"""What a backup needs to know of all experiments: their names, the newest time, the projects. `history` reads the rest.

To read a thousand commits for that takes longer than the backup of a small project in which nothing has changed. So
`.cache/experiments` remembers it, and only commits that are new are read. Safe to delete at any time; a commit never
changes, so a record that is whole is right.

Layout: MAGIC, BLAKE3 of the rest, then a RECORD for each experiment's newest commit.
"""

import contextlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from blake3 import blake3

from tensortime.experiments import Experiment
from tensortime.formats import Oid
from tensortime.fsops import read_file, write_atomic
from tensortime.history import EXPERIMENTS, TAGS, damaged_list, read_experiment, tags_among
from tensortime.names import ExperimentName
from tensortime.shadow import Ref, Shadow, message_of
from tensortime.store import Store
from tensortime.trailers import decode_message

MAGIC = b"tensortime experiments 1\n"
RECORD = struct.Struct("<20sq16s")
"""Raw id of the commit, its time (nanoseconds since 1970), BLAKE3 of the project's path."""
MOST_NS = (1 << 63) - 1


@dataclass(frozen=True)
class Roster:
    """All experiments of a store, as far as a backup needs them."""

    refs: tuple[Ref, ...]
    """Those of experiments and of tags; no commit is read."""
    broken: tuple[str, ...]
    times: Mapping[bytes, tuple[int, bytes]]
    """Of each readable commit that an experiment's ref names, by its raw id: its time, the mark of its project."""

    def find(self, shadow: Shadow, name: ExperimentName) -> Experiment | None:
        """The experiment of exactly this name, with all its facts; None where it cannot be read."""
        ref = next((one for one in self.refs if one.name == EXPERIMENTS + name), None)
        if ref is None:
            return None
        raw = next((raw for _, raw in shadow.read_objects([ref.oid], missing_ok=True)), None)
        read = read_experiment(ref._replace(commit=raw), tags_among(self.refs).get(name, []))
        return read if isinstance(read, Experiment) else None

    def newest_time_ns(self) -> int:
        """The largest known time; 0 for an empty store."""
        return max((time_ns for time_ns, _ in self.times.values()), default=0)

    def taken_names(self) -> set[str]:
        """All names that are in use, damaged ones too, in lower case: two that differ only in case are twins."""
        names = [one.name for one in self.refs if one.name.startswith(EXPERIMENTS)]
        names += (name for name in self.broken if EXPERIMENTS in name)
        return {name.removeprefix(EXPERIMENTS).lower() for name in names}

    def has_project(self, project: str) -> bool:
        """Whether an experiment is of the project at this path."""
        mark = mark_of(project)
        return any(mark == other for _, other in self.times.values())


def read_roster(store: Store) -> Roster:
    """The experiments that there are now. Reads the commits that `.cache/experiments` does not know."""
    with damaged_list():
        listed = store.shadow.tips(EXPERIMENTS, TAGS)
    known = remembered(cache_file(store))
    tips = {one.oid: bytes.fromhex(one.oid) for one in listed.refs if one.name.startswith(EXPERIMENTS)}
    times = {raw: known[raw] for raw in tips.values() if raw in known}
    new = (oid for oid, raw in tips.items() if raw not in times)
    for oid, raw in store.shadow.read_objects(new, missing_ok=True):
        # What is no backup has no time; `log` tells of it.
        with contextlib.suppress(ValueError):
            facts = decode_message(message_of(raw))
            times[bytes.fromhex(oid)] = facts.time_ns, mark_of(facts.project)
    return Roster(listed.refs, listed.broken, times)


def remember(store: Store, roster: Roster, commit: Oid, time_ns: int, project: str, staging: str) -> None:
    """Save what is known of the experiments, and of a new commit; a failure costs time only."""
    times = {**roster.times, bytes.fromhex(commit): (time_ns, mark_of(project))}
    records = [RECORD.pack(oid, *facts) for oid, facts in times.items() if abs(facts[0]) <= MOST_NS]
    body = b"".join(records)
    with contextlib.suppress(OSError):
        write_atomic(cache_file(store), MAGIC + blake3(body).digest() + body, staging=staging, durable=False)


def remembered(path: str) -> dict[bytes, tuple[int, bytes]]:
    """What a file says of commits; nothing where it is missing or damaged."""
    with contextlib.suppress(OSError):
        data = read_file(path)
        start = len(MAGIC) + blake3().digest_size
        body = data[start:]
        if data[:start] == MAGIC + blake3(body).digest() and len(body) % RECORD.size == 0:
            return {oid: (time_ns, mark) for oid, time_ns, mark in RECORD.iter_unpack(body)}
    return {}


def cache_file(store: Store) -> str:
    """Where it is remembered."""
    return store.path(".cache", "experiments")


def mark_of(project: str) -> bytes:
    """What stands for a project's path in a RECORD."""
    return blake3(project.encode("utf-8", "surrogatepass")).digest(length=16)
