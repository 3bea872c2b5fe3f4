"""One verification: is everything there that the backups need, and is it right? Changes nothing; `repair` does.

roots ──> commits, trees, manifests (read and checked) ──> what is missing
all packs and objects, or a part of them (read) ──────────> what is wrong ──> who needs it
"""

import contextlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tensortime import fsops
from tensortime.answers import Problem, VerifyReport
from tensortime.census import Census, Needs
from tensortime.condemned import read_condemned
from tensortime.errors import GitFailed
from tensortime.formats import Digest
from tensortime.gitobjects import GitObjects, Unreadable, reason_of
from tensortime.history import Target
from tensortime.monitor import Monitor
from tensortime.reach import EXPERIMENT, OTHER, PIN, TAG, TRASHED, WORKTREE, Root, read_roots
from tensortime.reading import (
    Share,
    Wrong,
    choose,
    parts_of,
    read_parts,
    read_position,
    write_position,
)
from tensortime.repair import Findings, mend
from tensortime.store import Store
from tensortime.withdrawn import DAMAGED, Mark, Withdrawn, changing_withdrawn, file_id, write_withdrawn

ORDER = (EXPERIMENT, TRASHED, TAG, PIN, OTHER, WORKTREE)
"""Whose name a commit gets that several reach."""

FOLD_WAIT = 10.0
"""Seconds to wait for a backup that joins packs."""


@dataclass(frozen=True)
class Scope:
    """What to verify: all, or one experiment, or one backup of it; and how much data to read."""

    target: Target | None = None
    alone: bool = False
    """Only the backup that the target names, not the whole experiment."""
    share: Share | None = None
    """None: no data is read."""


def verify(store: Store, scope: Scope, repair: bool, monitor: Monitor) -> VerifyReport:
    """Check a store. `repair`: put right what is provably wrong, and look again. StoreBusy."""
    started = time.monotonic()
    with store.in_use(), unfolded(store):
        report, findings = examine(store, scope, monitor)
        if repair and report.problems:
            with store.staging() as staging:
                repaired = mend(store, staging, findings, monitor)
            report = replace(examine(store, scope, monitor)[0], repaired=repaired)
    return replace(report, seconds=time.monotonic() - started)


def examine(store: Store, scope: Scope, monitor: Monitor) -> tuple[VerifyReport, Findings]:
    """Look at everything once."""
    findings = Findings()
    # Refs first: a backup that ends meanwhile then has more than they need, never less.
    roots = roots_of(store, findings) if scope.target is None else [root_of(scope.target, scope.alone)]
    census = take_census(GitObjects(store.path(".shadow")), roots, findings, scope.alone, monitor)
    look_at_objects(store, census, findings)
    if scope.share is not None:
        read_data(store, census, findings, scope.share, monitor, only_needed=scope.target is not None)
    problems = describe(census, findings)
    if scope.target is None and read_condemned(store.folder).damaged:
        reason = "tensortime gc frees what was purged"
        problems = (*problems, Problem("purging", ".shadow/purging", reason))
    with contextlib.suppress(OSError):
        withdraw(store, findings)
    report = VerifyReport(
        backups=len({label for labels in census.labels.values() for label in labels}),
        git_objects=len(census.commits) + len(census.trees) + len(census.blobs),
        objects=len(census.digests),
        bytes_read=findings.bytes_read,
        bytes_all=findings.bytes_all,
        problems=problems,
    )
    return report, findings


@contextlib.contextmanager
def unfolded(store: Store) -> Iterator[None]:
    """Keep backups from joining packs meanwhile, which is no loss: the next one does. Where nothing can be written
    nobody joins any."""
    if not store.is_writable:
        yield
        return
    with fsops.locked(store.path(".tmp", "fold.lock"), wait=FOLD_WAIT):
        yield


def take_census(
    objects: GitObjects, roots: Sequence[Root], findings: Findings, alone: bool, monitor: Monitor
) -> Census:
    """Read all that the roots need."""
    census = Census(objects)
    findings.files.update(objects.broken)
    monitor.begin("check", 0, 0)
    for root in sorted(roots, key=lambda one: ORDER.index(one.kind)):
        before = len(census.blobs)
        census.take(root, alone=alone)
        if root.kind in (EXPERIMENT, TRASHED) and not census.is_backup(root.tips[0]):
            findings.refs[root.ref] = "it names no backup"
        monitor.advance(len(census.blobs) - before, 0)
    return census


def root_of(target: Target, alone: bool) -> Root:
    """One experiment, or one backup of it, as what keeps bytes."""
    tip = target.commit if alone else target.experiment.commit
    name = target.experiment.name
    return Root(EXPERIMENT, name, (bytes.fromhex(tip),), "refs/experiments/" + name)


def roots_of(store: Store, findings: Findings) -> Sequence[Root]:
    """All roots of a store; refs that name nothing are findings."""
    try:
        roots, gaps = read_roots(store)
    except GitFailed:
        findings.refs["packed-refs"] = "the refs cannot be listed"
        return ()
    for gap in gaps:
        findings.refs[gap.node.decode("utf-8", "surrogateescape")] = gap.problem
    return roots


def look_at_objects(store: Store, census: Census, findings: Findings) -> None:
    """Whether each object that a manifest names is there, with its size, and each git object."""
    for oid, problem in census.unreadable.items():
        (findings.missing if problem.missing else findings.damaged)[oid] = problem.reason
        for pack in census.objects.copies(oid):
            findings.copies.setdefault(pack.name, set()).add(oid)
        path = census.objects.loose_path(oid)
        if os.path.lexists(path):
            findings.loose[oid] = path
    sidecar = store.sidecar()
    for digest, sizes in census.digests.items():
        try:
            info = os.lstat(sidecar.path_of(digest))
        except OSError as problem:
            findings.missing[digest] = (
                "it is missing" if isinstance(problem, FileNotFoundError) else reason_of(problem)
            )
            continue
        if not stat.S_ISREG(info.st_mode):
            findings.damaged[digest] = "it is no regular file"
        elif sizes != {info.st_size}:
            findings.damaged[digest] = "it has the wrong size"


def read_data(
    store: Store, census: Census, findings: Findings, share: Share, monitor: Monitor, *, only_needed: bool
) -> None:
    """Read the bytes of everything, or of the share whose turn it is."""
    oids = census.commits.keys() | census.trees | census.blobs if only_needed else None
    digests = census.digests.keys() if only_needed else None
    parts = parts_of(store, census.objects, oids, digests)
    findings.bytes_all = sum(part.size for part in parts)
    turning = not share.everything and not only_needed
    chosen = choose(parts, share, read_position(store) if turning else "")
    last = ""
    try:
        for part, wrong in read_parts(chosen, monitor):
            last = part.name
            findings.objects_read += len(part.entries) or 1
            findings.bytes_read += part.size
            for one in wrong:
                note(census.objects, findings, one)
    finally:
        if turning and last:
            with contextlib.suppress(OSError):
                write_position(store, last)


def note(objects: GitObjects, findings: Findings, wrong: Wrong) -> None:
    """Note what is wrong, unless it went away because nobody needs it, or because it stands in another pack now."""
    if not isinstance(wrong.what, bytes):
        if not wrong.gone:
            findings.damaged[wrong.what] = wrong.reason
        return
    if wrong.gone:
        objects.refresh()
    elif wrong.place.startswith("pack-"):
        findings.copies.setdefault(wrong.place, set()).add(wrong.what)
    else:
        findings.loose[wrong.what] = wrong.place
    try:
        objects.read(wrong.what)
        findings.spare.add(wrong.what)
    except Unreadable as problem:
        if not problem.missing:
            findings.damaged[wrong.what] = wrong.reason
        elif not wrong.gone:
            findings.missing[wrong.what] = problem.reason


def describe(census: Census, findings: Findings) -> tuple[Problem, ...]:
    """All findings in the words of a report, each with who needs it."""
    problems = [
        Problem("ref", name, reason, experiments_of_ref(name)) for name, reason in findings.refs.items()
    ]
    problems += [Problem("pack", name, reason) for name, reason in findings.files.items()]
    wrong = {**findings.missing, **findings.damaged}
    nodes = {one for one in wrong if isinstance(one, bytes)} | census.misread.keys()
    needs = census.who_needs(nodes, [one for one in wrong if not isinstance(one, bytes)])
    for what, reason in wrong.items():
        kind = "missing" if what in findings.missing else "damaged"
        problems.append(described(kind, what, reason, needs))
    problems += [described("manifest", what, reason, needs) for what, reason in census.misread.items()]
    for oids in findings.copies.values():
        for oid in sorted(oids & findings.spare):
            problems.append(Problem("copy", oid.hex(), "it is wrong in one pack, and right in another"))
    return tuple(sorted(problems, key=lambda one: (not one.experiments, one.kind, one.what)))


def described(kind: str, what: bytes | Digest, reason: str, needs: dict[bytes | Digest, Needs]) -> Problem:
    """One git object or object."""
    who = needs.get(what, Needs((), ()))
    name = what.hex() if isinstance(what, bytes) else str(what)
    return Problem(kind, name, reason, who.experiments, who.paths)


def experiments_of_ref(name: str) -> tuple[str, ...]:
    """The experiment that a broken ref was."""
    experiment = name.removeprefix("refs/experiments/")
    return (experiment,) if experiment != name else ()


def withdraw(store: Store, findings: Findings) -> None:
    """Note the damaged ones, so that the next backup of a project that still has their bytes stores them again."""
    sidecar, now = store.sidecar(), time.time_ns()
    marks: dict[Digest, Mark] = {}
    for what in findings.damaged:
        if not isinstance(what, bytes):
            with contextlib.suppress(OSError):
                marks[what] = Mark(DAMAGED, now, file_id(os.lstat(sidecar.path_of(what))))
    if marks or findings.copies:
        with changing_withdrawn(store.folder) as known:
            copies = {
                name: known.copies.get(name, frozenset()) | oids for name, oids in findings.copies.items()
            }
            found = Withdrawn({**known.objects, **marks}, known.packs, {**known.copies, **copies})
            write_withdrawn(store.folder, found)
