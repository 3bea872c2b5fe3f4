"""What completes a pending backup: commits of the same numbers and times, with the files that were missing.

    1 pending ── 2 added meanwhile ── 1 whole ── 2 on top of the whole

The newest commit of a number counts, and the last one is that of the highest number: so one ref update is enough, and
nothing that somebody may have restored, tagged or edited meanwhile goes.
"""

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from tensortime import history, ongoing, outcome
from tensortime.commits import read_contents, status_of, write_commit
from tensortime.errors import StoreBusy, UnknownExperiment
from tensortime.formats import Oid, RelPath, bytes_of, is_under, text_of
from tensortime.names import ExperimentName
from tensortime.packs import PackWriter
from tensortime.publication import ATTEMPTS, sync_ref
from tensortime.reports import QUEUED, Skipped
from tensortime.store import Store
from tensortime.trees import Contents, LargeFile

WHOLE_OR_NOT = ("pending", "incomplete", "done")
"""What a status says of a backup alone."""


@dataclass(frozen=True)
class Supplement:
    """What is known now of the files that a backup had queued."""

    name: ExperimentName
    number: int
    commit: Oid
    """The pending backup."""
    files: Mapping[RelPath, LargeFile]
    """Those that are stored."""
    failed: Mapping[RelPath, str]
    """Those that cannot be stored, and why."""
    groups: Mapping[RelPath, int]
    """The files of the whole backup that are hard links of each other, and the number of each one's group."""

    @property
    def paths(self) -> set[RelPath]:
        """The files that no longer wait."""
        return {*self.files, *self.failed}


def publish_supplement(store: Store, staging: str, supplement: Supplement, known: Collection[bytes]) -> Oid:
    """Move the experiment's ref to commits that have the files; `known`: ids of trees and blobs that are in packs.

    UnknownExperiment where the experiment is gone, StoreBusy where others keep moving it.
    """
    ref, packs = history.experiment_ref(supplement.name), store.path(".shadow", "objects", "pack")
    for _ in range(ATTEMPTS):
        tip = store.shadow.ref(ref)
        if tip is None or supplement.commit not in store.shadow.lineage(tip):
            raise UnknownExperiment(
                "{name} was removed meanwhile", name=supplement.name, hint="tensortime undelete"
            )
        with PackWriter(packs, staging) as writer:
            commit = write_supplement(store, writer, set(known), tip, supplement)
            writer.finish()
        if store.shadow.create_ref(ref, commit, tip):
            sync_ref(store, ref)
            return commit
    raise StoreBusy("other backups of {name} keep coming in between", name=supplement.name, hint="try again")


def write_supplement(
    store: Store, writer: PackWriter, known: set[bytes], tip: Oid, supplement: Supplement
) -> Oid:
    """Write a commit for each backup that waits for these files, and for the newest; returns the last one."""
    parent, newest = tip, history.read_facts(store.shadow, tip).number
    entries = [one for one in history.read_history(store.shadow, tip) if one.number >= supplement.number]
    for entry in reversed(entries):
        contents, run = read_contents(store.shadow, entry.commit)
        waiting = set(waiting_in(run, supplement, entry.number))
        if not waiting and (parent == tip or entry.number < newest):
            continue
        files = {path: file for path, file in supplement.files.items() if path in waiting}
        contents = completed(contents, files, supplement.groups)
        if outcome.OUTPUTS in contents.extra and "added" in run:
            contents, outputs = ongoing.with_outputs(store.shadow, entry.commit, contents)
            run["added"] = [one.path for one in outputs]
        skipped = [
            Skipped(one.path, supplement.failed[path]) if path in waiting else one
            for one in history.skipped_in(run)
            if (path := RelPath(bytes_of(one.path))) not in files
        ]
        told = history.read_facts(store.shadow, entry.commit)
        facts = replace(
            told,
            # How its command ended, or that it runs, says more than what is missing.
            status=status_of(skipped) if told.status in WHOLE_OR_NOT else told.status,
            files=contents.files,
            size=contents.size,
            edited_ns=time.time_ns(),
        )
        changed = {text_of(path) for path, file in files.items() if file.changed}
        known_changed = run.get("changed")
        run |= {
            "skipped": [{"path": one.path, "reason": one.reason} for one in skipped],
            "changed": sorted({*(known_changed if isinstance(known_changed, list) else ()), *changed}),
        }
        parent = write_commit(writer, known, contents, run, facts, parent)
    return parent


def waiting_in(run: Mapping[str, object], supplement: Supplement, number: int) -> Iterator[RelPath]:
    """The paths of a supplement that a backup lacks, as it is the pending one or was made on top of that.

    What another process has queued at the same path, it may have found in another state.
    """
    added = run.get("added")
    if number != supplement.number and not isinstance(added, list):
        return
    own = added if number != supplement.number and isinstance(added, list) else ()
    for one in history.skipped_in(run):
        path = RelPath(bytes_of(one.path))
        waits = one.reason == QUEUED and path in supplement.paths
        if waits and not any(is_under(path, bytes_of(str(top))) for top in own):
            yield path


def completed(below: Contents, files: Mapping[RelPath, LargeFile], groups: Mapping[RelPath, int]) -> Contents:
    """The contents with these files, in place of what is at these paths, and no folder around them empty.

    A backup on top of an older one has what that had there: small files that have grown, folders that are files now.
    """
    kept = outcome.without_conflicts(outcome.files_of(below), files)
    around = {path.rpartition(b"/")[0] for path in files}
    folders = {
        path: folder._replace(empty=False) if path in around else folder
        for path, folder in below.folders.items()
        if path not in files
    }
    return replace(
        below,
        small={path: file for path, file in below.small.items() if path in kept and path not in files},
        large={
            **{path: file for path, file in below.large.items() if path in kept},
            **grouped(below, files, groups),
        },
        links={path: link for path, link in below.links.items() if path in kept and path not in files},
        folders=folders,
    )


def grouped(
    below: Contents, files: Mapping[RelPath, LargeFile], groups: Mapping[RelPath, int]
) -> dict[RelPath, LargeFile]:
    """The files, each with the number that the group of its hard links has, or can have, among the contents."""
    taken = {file.link for file in below.regular if file.link is not None}
    numbers: dict[int, int] = {}
    for path, group in groups.items():
        one = None if path in files else below.small.get(path) or below.large.get(path)
        if one is not None and one.link is not None:
            numbers[group] = one.link
    found = {}
    for path, file in files.items():
        link = None
        if path in groups:
            group = groups[path]
            link = numbers.setdefault(group, group if group not in taken else max(taken) + 1)
            taken.add(link)
        found[path] = file._replace(link=link)
    return found
