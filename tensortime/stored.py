"""A backup, or two of them, as `diff` compares them."""

import io
import os
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import IO

from tensortime import history
from tensortime.commits import contents_of
from tensortime.differences import Side
from tensortime.errors import Damaged
from tensortime.formats import META, Oid, RelPath, bytes_of, covering, digest_of, raw_of, text_of
from tensortime.manifest import FILE, SMALL, SYMLINK, Manifest
from tensortime.outcome import OUTPUTS, rewritten_in
from tensortime.packages import decode_packages
from tensortime.packs import Kind, object_id
from tensortime.pairs import State, items_of, output_folders
from tensortime.plans import is_meta
from tensortime.shadow import Shadow, tree_item
from tensortime.store import Store

FOLDER_LINE = b"040000 "


class Stored:
    """What is read of a backup."""

    def __init__(self, store: Store, target: history.Target) -> None:
        self.store, self.shadow, self.target = store, store.shadow, target
        with history.damage_in(target):
            self.lines = self.shadow.tree_lines(target.commit)
            prefix = b"\t" + META + b"/"
            # The records tell nothing that is compared, and are the longest.
            self.meta = history.read_meta(
                self.shadow,
                [
                    tree_item(line)
                    for line in self.lines
                    if prefix in line and prefix + b"records/" not in line
                ],
            )
            self.manifest = history.manifest_of(self.meta)
            changed, self.first_run = made_later(self.shadow, target, self.manifest)
            self.outputs = changed | self.rewritten

    @property
    def lists_outputs(self) -> bool:
        """Whether the backup itself tells all that its run made."""
        return OUTPUTS in self.meta

    @property
    def rewritten(self) -> frozenset[RelPath]:
        """The outputs that have the bytes which the inputs have at their paths."""
        return rewritten_in(self.meta)

    @cached_property
    def on_top(self) -> tuple[int, frozenset[RelPath]]:
        """The number of the last whole backup that this one is, or is on top of, and what was put on top of it."""
        commits, runs = backups_below(self.shadow, self.target)
        base = max(
            (number for number in commits if "added" not in runs.get(number, {})), default=min(commits)
        )
        if base == self.target.number:
            return base, frozenset()
        inputs = left_out_of(runs.get(base, {}), ("skipped",))
        changed = changed_paths(self.shadow, commits[base], self.target.commit, self.manifest)
        made = frozenset(path for path in changed if covering(path, inputs) is None)
        return base, made | self.rewritten

    def modes(self) -> set[RelPath]:
        """The small files of which the manifest, too, says something."""
        return {one.path for one in self.manifest.entries.values() if one.kind == SMALL}

    def files(self) -> list[bytes]:
        """The paths of all files and links."""
        own = META + b"/"
        paths = (line.partition(b"\t")[2] for line in self.lines if not line.startswith(FOLDER_LINE))
        return [path for path in paths if not path.startswith(own)] + [*outside_git(self.manifest)]

    def state(self, passed_over: Collection[bytes] = ()) -> State:
        """All that is compared, without the paths of some lines."""
        shadow, target = self.shadow, self.target
        with history.damage_in(target):
            tree = [tree_item(line) for line in self.lines if line not in passed_over]
            contents, run = contents_of(tree, self.meta), history.run_of(self.meta)
            facts = history.read_facts(shadow, target.commit)
        files = {path: (one.oid, one.size, one.permissions) for path, one in contents.small.items()}
        large = {
            path: (raw_of(one.digest), one.size, one.permissions) for path, one in contents.large.items()
        }
        links = {path: (one.oid, one.target) for path, one in contents.links.items()}
        folders = {path: (one.permissions, one.empty) for path, one in contents.folders.items()}
        items = items_of({**files, **large}, links, folders, self.manifest.umask)
        packages = self.meta.get(b"packages.txt")

        def read(paths: Sequence[RelPath]) -> Mapping[RelPath, bytes]:
            with history.damage_in(target):
                return read_blobs(shadow, {path: items[path].identity or b"" for path in paths})

        def opened(path: RelPath) -> IO[bytes]:
            item = items[path]
            if not item.large:
                return io.BytesIO(read([path])[path])
            digest = digest_of(item.identity or b"")
            return os.fdopen(self.store.sidecar().open_object(digest, item.size), "rb")

        name, number = target.experiment.name, target.number
        first = self.first_run
        return State(
            Side(name, number, target.commit, facts.note, facts.time_ns, facts.project),
            items,
            # A backup that adds looks only at what it adds.
            {**({"outside": first["outside"]} if "outside" in first else {}), **run},
            self.outputs,
            output_folders(self.files(), self.outputs) if self.outputs else frozenset(),
            left_out_of(run) | left_out_of(first),
            facts.params,
            facts.metrics,
            None if packages is None else decode_packages(packages),
            read,
            opened,
        )


def of_backup(store: Store, target: history.Target) -> State:
    """One backup of an experiment. Damaged, GitFailed."""
    return Stored(store, target).state()


def of_backups(store: Store, target: history.Target, other: history.Target) -> tuple[State, State]:
    """Two backups, without most of what is the same in both. Damaged, GitFailed."""
    a, b = Stored(store, target), Stored(store, other)
    alike, told = set(a.lines) & set(b.lines), a.modes() | b.modes()
    # Folders stay: whether one is empty shows only there.
    same = {line for line in alike if not line.startswith(FOLDER_LINE)}
    if told:
        same = {line for line in same if line.partition(b"\t")[2] not in told}
    return a.state(same), b.state(same)


def left_out_of(
    run: Mapping[str, object], keys: Sequence[str] = ("ignored", "skipped")
) -> frozenset[RelPath]:
    """The paths that a backup ignored or skipped, as run.json lists them."""
    found = set()
    for key in keys:
        rows = run.get(key)
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict) and isinstance(row.get("path"), str):
                found.add(RelPath(bytes_of(row["path"])))
    return frozenset(found)


def made_later(
    shadow: Shadow, target: history.Target, manifest: Manifest
) -> tuple[frozenset[RelPath], Mapping[str, object]]:
    """The paths that backups put on top of an experiment's inputs, and the run.json of what this one is on top of.

    A later whole backup looks at the inputs anew: what it finds changed was changed by a person. What a whole backup
    should have held and could not belongs to the inputs too, whoever stores it later.
    """
    commits, runs = backups_below(shadow, target)
    if len(commits) < 2:
        return frozenset(), {}
    outputs, base = set[RelPath](), min(commits)
    for number in sorted(commits):
        if "added" not in runs.get(number, {}):
            base = number
        elif number != base and "added" not in runs.get(number + 1, {}):
            after = manifest if number == target.number else manifest_at(shadow, commits[number])
            inputs = left_out_of(runs.get(base, {}), ("skipped",))
            changed = changed_paths(shadow, commits[base], commits[number], after)
            outputs |= {path for path in changed if covering(path, inputs) is None}
    return frozenset(outputs), runs.get(base, {}) if base != target.number else {}


def backups_below(
    shadow: Shadow, target: history.Target
) -> tuple[dict[int, Oid], dict[int, Mapping[str, object]]]:
    """The commits of an experiment's backups up to one of them, and if there are several their run.json, by number."""
    known = history.read_history(shadow, target.commit)
    # A backup that was completed after later ones were made comes after them.
    commits = {one.number: one.commit for one in known if one.number <= target.number}
    return commits, history.runs_of(shadow, commits.values()) if len(commits) > 1 else {}


def changed_paths(shadow: Shadow, old: Oid, new: Oid, manifest: Manifest) -> set[RelPath]:
    """The files and links that differ between two backups; `manifest`: that of the second."""
    before, after = outside_git(manifest_at(shadow, old)), outside_git(manifest)
    paths = {path for path in shadow.changed_paths(old, new) if not is_meta(path)}
    return paths | {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def manifest_at(shadow: Shadow, commit: Oid) -> Manifest:
    """The manifest of a backup."""
    return history.manifest_of(history.read_meta(shadow, shadow.tree(commit, META)))


def outside_git(manifest: Manifest) -> dict[RelPath, object]:
    """What the manifest alone holds, by path: digests, and the targets of links."""
    entries = manifest.entries.values()
    return {one.path: one.digest or one.target for one in entries if one.kind in (FILE, SYMLINK)}


def read_blobs(shadow: Shadow, wanted: Mapping[RelPath, bytes]) -> dict[RelPath, bytes]:
    """The bytes of small files, checked against their ids; Damaged names the first that is not whole."""
    blobs = dict(shadow.read_objects(sorted({oid.hex() for oid in wanted.values()}), missing_ok=True))
    for path, oid in wanted.items():
        if oid.hex() not in blobs or object_id(Kind.BLOB, blobs[oid.hex()]) != oid:
            raise Damaged("the bytes of {path} are missing or damaged", path=text_of(path))
    return {path: blobs[oid.hex()] for path, oid in wanted.items()}
