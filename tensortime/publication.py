"""From contents to a ref: name the experiment, write the commit, let the ref point at it."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from operator import attrgetter

from tensortime import fsops, history, records
from tensortime.beginning import Begun, begin, is_own_worktree, runner_after, status_in
from tensortime.commits import (
    RUNNING,
    Run,
    describe_run,
    facts_on_top,
    facts_under,
    overlay,
    read_contents,
    rows_beside,
    write_commit,
)
from tensortime.cycles import no_cycle_search
from tensortime.environment import host_id
from tensortime.errors import StoreBusy
from tensortime.findings import Scan
from tensortime.formats import META, Oid, RelPath, bytes_of, covering, is_under, text_of
from tensortime.ignoring import FILE_NAME, Rules
from tensortime.intake import Intake
from tensortime.packs import PackWriter
from tensortime.refusals import refusal
from tensortime.reports import BackupReport, LinkOut, OutputFile, Skipped
from tensortime.repository import nested_heads
from tensortime.roster import Roster, read_roster, remember
from tensortime.session import Collector, Session
from tensortime.shadow import NO_OID
from tensortime.statsums import StatSums
from tensortime.store import LOCK_WAIT, Store
from tensortime.trailers import BackupFacts
from tensortime.trees import Contents
from tensortime.walk import LONGEST_TTIGNORE

ENVIRONMENT_SECONDS = 0.03
"""How long a backup waits, once the files are in, for what run.json records."""

ATTEMPTS = 100
"""How often the commit is written again when another backup took the name or moved the ref meanwhile. Each time one
of the others got through, so this many of a sweep may begin in the same second with the same note."""


@dataclass(frozen=True)
class Gathered:
    """What one backup found and read."""

    found: Scan
    taken: Intake
    contents: Contents
    skipped: tuple[Skipped, ...]
    """What should be in the contents and is not."""
    known: set[bytes]
    """Raw ids of blobs and trees that are in the store's packs; grows while the commit is written."""
    below: Mapping[str, object] = field(default_factory=dict)
    """The run.json of the backup that something is added to."""
    added: Sequence[RelPath] | None = None
    """The paths that are put on top of that backup; None for a whole one."""
    outputs: tuple[OutputFile, ...] = ()
    edited: tuple[str, ...] = ()


def publish(
    session: Session,
    roster: Roster,
    writer: PackWriter,
    gathered: Gathered,
    collector: Collector,
) -> BackupReport:
    """Write the commit and move the ref. If another backup took the name or moved the ref meanwhile: once more."""
    store, taken = session.store, gathered.taken
    facts, files = collector.finish(ENVIRONMENT_SECONDS, held_by(session, gathered))
    gathered = replace(gathered, contents=replace(gathered.contents, extra=files))
    if gathered.found.nested:
        top = os.fsencode(session.place.project) + b"/"
        facts["nested"] = nested_heads((top + path, path) for path in gathered.found.nested)
    session.sidecar.sync(taken.to_sync)
    report = publish_once(session, roster, writer, gathered, facts)
    if report is not None:
        return report
    for _ in range(ATTEMPTS):
        # Who waits for a turn needs one more try. Where a hundred begin in the same moment and all try at once, each
        # needs a dozen, and leaves as many commits that nobody needs.
        with fsops.locked(store.path(".tmp", "publish.lock"), wait=LOCK_WAIT):
            roster = read_roster(store)
            report = publish_once(session, roster, session.writer(), gathered, facts)
        if report is not None:
            return report
    name = begin(session, roster).name
    raise StoreBusy("other backups of {name} keep coming in between", name=name, hint="try again")


@no_cycle_search()
def publish_once(
    session: Session,
    roster: Roster,
    writer: PackWriter,
    gathered: Gathered,
    facts: dict[str, object],
) -> BackupReport | None:
    """Write the commit and move the ref; None where another backup has taken the name or moved the ref meanwhile."""
    store, options = session.store, session.options
    gathered.taken.writers.append(writer)
    begun = begin(session, roster)
    whole, told = replace(gathered, added=options.only), facts
    if options.only is not None and begun.parent is not None:
        with history.damage_of(begun.name):
            whole, told = on_top_of(store, begun, gathered, options.only, facts)
    elif begun.runner or (begun.existing and options.run):
        begun, whole, told = in_its_run(session, begun, gathered, facts)
    if options.run is not None and options.run.result is not None:
        told = {**told, "result": dict(options.run.result)}
    commit = commit_contents(session, writer, with_records(whole, begun.kept), begun, told)
    try:
        writer.finish()
    except OSError as problem:
        raise refusal(writer.folder, problem) from problem
    ref = history.experiment_ref(begun.name)
    gathered.taken.commits.add(commit)
    if not store.shadow.create_ref(ref, commit, begun.parent or NO_OID):
        return None
    sync_ref(store, ref)
    remember(store, roster, commit, begun.time_ns, project_of(session, begun), session.staging)
    records.note_metrics(store.folder, begun.name, options.metrics)
    return report_of(session, begun, commit, whole, writer.bytes)


def with_records(gathered: Gathered, kept: records.Kept) -> Gathered:
    """What was gathered, and what the experiment has appended, in place of what the backup below has of that."""
    if kept == records.NOTHING_KEPT:
        return gathered
    extra = dict(gathered.contents.extra)
    if kept.files:
        extra = {name: data for name, data in extra.items() if not name.startswith(b"records/")}
    contents = replace(gathered.contents, extra={**extra, **kept.files})
    return replace(gathered, contents=contents, skipped=(*gathered.skipped, *skipped_records(kept)))


def skipped_records(kept: records.Kept) -> list[Skipped]:
    """What of the records could not be stored."""
    return [Skipped(path, reason) for path, reason in kept.left_out]


def held_by(session: Session, gathered: Gathered) -> Callable[[bytes, bool], bool]:
    """Tells whether a file may be told of: what the backup holds, and of what is gone (True) what it would hold.

    What lies outside the project is no part of the backup.
    """
    project = os.fsencode(os.path.realpath(session.place.project))
    contents, rules = gathered.contents, RulesOfGone(session, project)
    folders = {bytes_of(one.path) for one in gathered.found.ignored if one.folder}

    def may_tell(path: bytes, is_gone: bool) -> bool:
        inside = RelPath(path[len(project) + 1 :])
        if not is_under(path, project):
            return False
        if is_gone:
            return not any(is_under(inside, folder) for folder in folders) and rules.take(inside)
        return inside in contents.small or inside in contents.large or inside in contents.links

    return may_tell


class RulesOfGone:
    """The rules of a backup for paths where nothing is any more; each `.ttignore` is read once."""

    def __init__(self, session: Session, project: bytes) -> None:
        options = session.options
        self.project = project
        self.known = {b"": Rules.start(options.ignored_by_config, options.ignore, project)}
        self.known[b""] = self.entered(b"", self.known[b""])

    def take(self, path: bytes) -> bool:
        """Whether no rule leaves out a file, or a folder that it lay in."""
        rules, at = self.known[b""], path.find(b"/")
        while at >= 0:
            folder = path[:at]
            if rules.decide(folder, folder.rpartition(b"/")[2], True) is not None:
                return False
            if folder not in self.known:
                self.known[folder] = self.entered(folder, rules)
            rules, at = self.known[folder], path.find(b"/", at + 1)
        return rules.decide(path, path.rpartition(b"/")[2], False) is None

    def entered(self, folder: bytes, rules: Rules) -> Rules:
        """The rules inside a folder, which may be gone too."""
        data = None
        with contextlib.suppress(OSError):
            data = fsops.read_file(os.path.join(self.project, folder, FILE_NAME), limit=LONGEST_TTIGNORE)
        return rules.enter(folder, data)


def in_its_run(
    session: Session, begun: Begun, gathered: Gathered, collected: dict[str, object]
) -> tuple[Begun, Gathered, dict[str, object]]:
    """What a look at all of the project adds to an experiment whose command runs."""
    if begun.parent is None or begun.existing is None:
        return begun, gathered, collected
    from tensortime import ongoing  # 3 ms that a backup of its own need not pay

    top = os.fsencode(os.path.realpath(session.place.project)) + b"/"
    rules, step = RulesOfGone(session, top[:-1]), session.options.run
    stats = {one.path: one for one in gathered.found.files}
    before, also = (step.before, step.also) if step is not None else (StatSums(), ())
    own = is_own_worktree(session, begun)
    found = ongoing.put_on_top(
        session.store.shadow,
        begun.parent,
        gathered.contents,
        collected,
        step,
        waits=bool(gathered.taken.queued),
        elsewhere=step is None and not own and begun.existing.project != text_of(top[:-1]),
        alone=own or (step is not None and step.alone),
        is_gone=lambda path: not os.path.lexists(top + path) and rules.take(path),
        is_old=lambda path: covering(path, also) is not None and path in stats and stats[path] in before,
        is_written=lambda path: path in stats and not before.is_unwritten(stats[path]),
    )
    if found is None:
        return begun, gathered, collected
    if found.is_edit:
        begun = replace(begun, number=begun.existing.backups, time_ns=begun.existing.time_ns, is_edit=True)
    whole = replace(
        gathered,
        contents=found.contents,
        added=found.added,
        outputs=found.outputs,
        edited=tuple(text_of(path) for path in found.edited),
    )
    return begun, whole, found.facts


def on_top_of(
    store: Store, begun: Begun, gathered: Gathered, only: Sequence[RelPath], collected: dict[str, object]
) -> tuple[Gathered, dict[str, object]]:
    """What was gathered at and under some paths, in place of what an older backup has there; and its facts, kept."""
    parent = begun.parent or NO_OID
    older, below = read_contents(store.shadow, parent)
    facts, added = facts_on_top(below, collected), gathered.contents
    nested = collected.get("nested")
    if isinstance(nested, list):
        facts["nested"] = [*rows_beside(below, "nested", only), *nested]
    if "added_by" in facts:
        # What another program is has no place among what is known of this one.
        extra = {
            name: data for name, data in added.extra.items() if name in RUNNING and name not in older.extra
        }
        added = replace(added, extra=extra)
    anew = (*only, META)  # the records are read again at each backup
    kept = (
        one for one in history.skipped_in(below) if not any(is_under(bytes_of(one.path), top) for top in anew)
    )
    contents = overlay(older, added, only)
    from tensortime import ongoing, outcome  # as above

    if begun.runner or outcome.OUTPUTS in older.extra:
        contents, _ = ongoing.with_outputs(store.shadow, parent, contents)
    skipped = (*kept, *gathered.skipped)
    return replace(gathered, contents=contents, skipped=skipped, below=below, added=only), facts


def project_of(session: Session, begun: Begun) -> str:
    """The path of the project that a backup is said to be of."""
    if begun.existing is not None and is_own_worktree(session, begun):
        return begun.existing.project
    return text_of(os.fsencode(session.place.project))


def commit_contents(
    session: Session, writer: PackWriter, gathered: Gathered, begun: Begun, collected: Mapping[str, object]
) -> Oid:
    """Write the commit of what was gathered."""
    # Where it was restored from is no parent of what is added to it there.
    contents, own = gathered.contents, is_own_worktree(session, begun)
    run = Run(
        begun.number,
        begun.time_ns,
        None if own else session.place.parent,
        gathered.added,
        changed_paths(contents),
        gathered.below,
    )
    skipped = [{"path": one.path, "reason": one.reason} for one in gathered.skipped]
    described = describe_run(run, collected, gathered.found, skipped)
    command, parent = described.get("command"), facts_under(described, "parent")
    facts = BackupFacts(
        note=begun.note,
        number=begun.number,
        time_ns=begun.time_ns,
        host_id=host_id(),
        project=project_of(session, begun),
        status=status_in(session, begun, gathered.skipped),
        files=contents.files,
        size=contents.size,
        parent=f"{parent.get('experiment')}:{parent.get('backup')}" if parent else "",
        command=tuple(str(word) for word in command) if isinstance(command, list) else (),
        params=begun.params,
        metrics=begun.metrics,
        edited_ns=time.time_ns() if begun.is_edit else 0,
        runner=runner_after(session, begun),
    )
    return write_commit(writer, gathered.known, contents, described, facts, begun.parent)


def changed_paths(files: Intake | Contents) -> tuple[str, ...]:
    """The files that changed under every try to read them."""
    changed = attrgetter("changed")
    small = compress(files.small, map(changed, files.small.values()))
    large = compress(files.large, map(changed, files.large.values()))
    return tuple(text_of(path) for path in sorted((*small, *large)))


def report_of(session: Session, begun: Begun, commit: Oid, gathered: Gathered, packed: int) -> BackupReport:
    """What the caller gets to know; `packed`: bytes that went into packs."""
    taken, contents = gathered.taken, gathered.contents
    return BackupReport(
        experiment=begun.name,
        commit=commit,
        number=begun.number,
        note=begun.note,
        time_ns=begun.time_ns,
        files=contents.files,
        bytes=contents.size,
        stored_bytes=taken.stored_bytes + packed,
        small=len(contents.small),
        large=len(contents.large),
        ignored=tuple(gathered.found.ignored),
        skipped=(*taken.skipped, *skipped_records(begun.kept)),
        changed=changed_paths(taken),
        queued=tuple(map(text_of, taken.queued)),
        queued_bytes=sum(one.file.size for one in taken.queued.values()),
        outside=tuple(
            LinkOut(text_of(one.path), text_of(one.target), one.files, one.bytes, one.complete)
            for one in gathered.found.outside
        ),
        is_edit=begun.is_edit,
        outputs=gathered.outputs,
        edited=gathered.edited,
        store=session.store.folder,
    )


def sync_ref(store: Store, ref: str) -> None:
    """Make a new ref survive a power loss: its content (git does that since 2.36), its name, and those of new folders."""
    path = os.path.join(os.fsencode(store.path(".shadow")), bytes_of(ref))
    # Gone already where somebody packed the refs meanwhile, which syncs them.
    with contextlib.suppress(OSError):
        fsops.sync_path(path)
        fsops.sync_folder(os.path.dirname(path))
    if not ref.startswith(history.EXPERIMENTS):
        store.sync_refs()  # its folder may be as new as it is
