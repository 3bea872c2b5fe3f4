"""From what was read to a published commit: contents, run.json, message, ref."""

import json
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tensortime.findings import Scan
from tensortime.formats import META, Oid, RelPath, bytes_of, is_under, iso_time, text_of
from tensortime.history import manifest_of, read_meta, run_of
from tensortime.intake import Intake
from tensortime.manifest import FOLDER, SYMLINK, ManifestEntry, plain_mode
from tensortime.packs import Kind, PackWriter, encode_commit, object_id, pack_object
from tensortime.project import Parent
from tensortime.reports import QUEUED, Skipped
from tensortime.shadow import Shadow, TreeItem
from tensortime.trailers import BackupFacts, encode_message
from tensortime.trees import (
    MODE_FOLDER,
    MODE_LINK,
    MODE_PROGRAM,
    PERMISSIONS,
    Contents,
    Folder,
    LargeFile,
    SmallFile,
    Symlink,
    is_own_meta,
    lay_out,
    link_goes_into_git,
    link_groups,
    meta_files,
    write_object,
    write_tree,
)

RUNNING = (b"cells.py",)
"""Files of `.tensortime/` that only grow while a program runs: a backup that adds has more of them than the one below.
The others tell of the start, with which all of the code was stored."""

KNOWN_LATER = ("launch", "trackers", "notebook")
"""Facts that a program that is running knows better than when it began."""

OF_ONE_BACKUP = ("format", "backup", "time", "added", "added_by", "skipped", "changed", "purged")
"""Facts that a backup that adds does not have from the one below."""


@dataclass(frozen=True)
class Run:
    """What run.json says beside what the environment told."""

    number: int
    time_ns: int
    parent: Parent | None
    added: Sequence[RelPath] | None
    changed: Sequence[str]
    below: Mapping[str, object] = field(default_factory=dict)
    """What the run.json of the backup says that something is added to."""


def gather(writer: PackWriter, known: set[bytes], taken: Intake, found: Scan) -> Contents:
    """All that was found and read; the targets of links that git carries are written as blobs."""
    groups = groups_of(taken)
    small, large = (dict(taken.small), dict(taken.large)) if groups else (taken.small, taken.large)
    for path, group in groups.items():
        if path in small:
            small[path] = small[path]._replace(link=group)
        elif path in large:
            large[path] = large[path]._replace(link=group)
    links: dict[RelPath, Symlink] = {}
    for link in found.links:
        if link_goes_into_git(link.path):
            links[link.path] = Symlink(write_object(writer, known, Kind.BLOB, link.target), None)
        else:
            links[link.path] = Symlink(None, link.target)
    emptied = emptied_folders(found, small, large)
    folders = {
        one.path: Folder(stat.S_IMODE(one.mode) & PERMISSIONS, one.empty or one.path in emptied)
        for one in found.folders
    }
    return Contents(small, large, links, folders, found.root_mode & PERMISSIONS)


def groups_of(taken: Intake) -> dict[RelPath, int]:
    """Which files, stored or queued, are hard links of each other: the number of each one's group."""
    kept = (taken.small, taken.large, taken.queued)
    return link_groups(
        (file.path, file.device, file.inode)
        for file in taken.linked
        if any(file.path in files for files in kept)
    )


def status_of(skipped: Iterable[Skipped]) -> str:
    """The status of a backup that lacks this."""
    reasons = {one.reason for one in skipped}
    return "pending" if QUEUED in reasons else "incomplete" if reasons else "done"


def emptied_folders(
    found: Scan, small: Mapping[RelPath, SmallFile], large: Mapping[RelPath, LargeFile]
) -> set[bytes]:
    """The folders whose files all went away, or could not be read, after the walk had seen them."""
    gone = [file.path for file in found.files if file.path not in small and file.path not in large]
    if not gone:
        return set()
    others = [*(link.path for link in found.links), *(folder.path for folder in found.folders)]
    return {folder_of(path) for path in gone} - {folder_of(path) for path in (*small, *large, *others)}


def folder_of(path: bytes) -> bytes:
    """The folder that a path lies in."""
    return path.rpartition(b"/")[0]


def read_contents(shadow: Shadow, commit: Oid) -> tuple[Contents, dict[str, object]]:
    """The contents of an older backup, and its run.json."""
    items = shadow.tree(commit)
    meta = read_meta(shadow, items)
    return contents_of(items, meta), run_of(meta)


def contents_of(items: Sequence[TreeItem], meta: Mapping[bytes, bytes]) -> Contents:
    """The inverse of `trees.lay_out`; `meta`: the files of `.tensortime/`."""
    manifest = manifest_of(meta)
    small: dict[RelPath, SmallFile] = {}
    large: dict[RelPath, LargeFile] = {}
    links: dict[RelPath, Symlink] = {}
    folders: dict[RelPath, Folder] = {}
    for item in items:
        if item.path == META or item.path.startswith(META + b"/"):
            continue
        entry = manifest.entries.get(item.path)
        if item.mode == MODE_FOLDER:
            folders[item.path] = Folder(mode_or(entry, 0o777 & ~manifest.umask), False)
        elif item.mode == MODE_LINK:
            links[item.path] = Symlink(item.oid, None)
        else:
            plain = plain_mode(0o100 if item.mode == MODE_PROGRAM else 0, manifest.umask)
            changed, link = (entry.changed, entry.link) if entry else (False, None)
            small[item.path] = SmallFile(item.oid, item.size, mode_or(entry, plain), changed, link)
    for path, entry in manifest.entries.items():
        if entry.kind == FOLDER:
            folders[path] = Folder(mode_or(entry, 0o777 & ~manifest.umask), path not in folders)
        elif entry.kind == SYMLINK:
            links[path] = Symlink(None, entry.target)
        elif entry.digest is not None and entry.size is not None:
            mode = mode_or(entry, 0o666 & ~manifest.umask)
            large[path] = LargeFile(
                entry.digest, entry.size, mode, entry.mtime_ns or 0, entry.changed, entry.link
            )
    root_mode = 0o777 & ~manifest.umask if manifest.root_mode is None else manifest.root_mode
    extra = {name: data for name, data in meta.items() if not is_own_meta(name)}
    return Contents(small, large, links, folders, root_mode, extra)


def mode_or(entry: ManifestEntry | None, plain: int) -> int:
    """The permissions that the manifest states, or the plain ones."""
    return plain if entry is None or entry.mode is None else entry.mode


def overlay(below: Contents, above: Contents, paths: Sequence[RelPath]) -> Contents:
    """`above` in place of whatever `below` has at and under these paths; link groups stay apart."""
    shift = max((file.link or 0 for file in below.regular), default=0)

    def outside(path: RelPath) -> bool:
        if path in above.folders:
            return False  # a file that became a folder around what is added; folders there are replaced
        return not any(is_under(path, top) for top in paths)

    small = {path: file for path, file in below.small.items() if outside(path)}
    large = {path: file for path, file in below.large.items() if outside(path)}
    for path, file in above.small.items():
        small[path] = file if file.link is None else file._replace(link=file.link + shift)
    for path, big in above.large.items():
        large[path] = big if big.link is None else big._replace(link=big.link + shift)
    return Contents(
        {path: file for path, file in small.items() if path not in above.large},
        {path: file for path, file in large.items() if path not in above.small},
        {path: link for path, link in below.links.items() if outside(path)} | dict(above.links),
        {path: folder for path, folder in below.folders.items() if outside(path)} | dict(above.folders),
        below.root_mode,
        {
            **above.extra,
            **below.extra,
            **{name: above.extra[name] for name in RUNNING if name in above.extra},
        },
    )


def facts_on_top(below: Mapping[str, object], collected: Mapping[str, object]) -> dict[str, object]:
    """The facts of a run to which something is added: those of its start, and who added where that was another process.

    Who adds results from a shell tells nothing of the training: its command, Python and variables are not the run's.
    """
    if not below:
        return dict(collected)
    if any(below.get(key) != collected.get(key) for key in ("host", "pid", "command")):
        told = ("command", "cwd", "host", "pid", *KNOWN_LATER)
        kept = {key: value for key, value in below.items() if key not in OF_ONE_BACKUP}
        return {**kept, "added_by": {key: collected[key] for key in told if key in collected}}
    late = [key for key in ("machine", "packages", "python") if "error" in facts_under(below, key)]
    kept = {key: value for key, value in below.items() if key not in (*OF_ONE_BACKUP, *late)}
    return {**kept, **{key: collected[key] for key in (*KNOWN_LATER, *late) if key in collected}}


def facts_under(facts: Mapping[str, object], key: str) -> Mapping[str, object]:
    """The facts under a key; none where it is missing or of another kind."""
    found = facts.get(key)
    return found if isinstance(found, Mapping) else {}


def rows_beside(below: Mapping[str, object], key: str, tops: Sequence[RelPath]) -> list[object]:
    """What the run.json below lists of other paths than those that are added."""
    rows = below.get(key)
    kept = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [row for row in kept if not any(is_under(bytes_of(str(row.get("path"))), top) for top in tops)]


def describe_run(
    run: Run, collected: Mapping[str, object], found: Scan, skipped: Sequence[object]
) -> dict[str, object]:
    """The content of run.json."""
    facts: dict[str, object] = {"format": 1, "backup": run.number, "time": iso_time(run.time_ns), **collected}
    if not facts.get("parent"):
        facts["parent"] = (
            None
            if run.parent is None
            else {
                "experiment": run.parent.experiment,
                "backup": run.parent.number,
                "commit": run.parent.commit,
            }
        )
    if run.added is not None:
        facts["added"] = [text_of(path) for path in run.added]
    ignored = [{"path": one.path, "rule": one.rule} for one in found.ignored]
    facts["ignored"] = [*rows_beside(run.below, "ignored", run.added or ()), *ignored]
    facts["skipped"] = skipped
    facts["changed"] = list(run.changed)
    outside = [*rows_beside(run.below, "outside", run.added or ()), *outside_facts(found)]
    facts.pop("outside", None)
    return {**facts, "outside": outside} if outside else facts


def outside_facts(found: Scan) -> list[dict[str, object]]:
    """What run.json says of links out of the project."""
    return [
        {
            "path": text_of(one.path),
            "target": text_of(one.target),
            "files": one.files,
            "bytes": one.bytes,
            "newest": iso_time(one.newest_ns),
            "complete": one.complete,
        }
        for one in found.outside
    ]


def write_commit(
    writer: PackWriter,
    known: set[bytes],
    contents: Contents,
    run: Mapping[str, object],
    facts: BackupFacts,
    parent: Oid | None,
) -> Oid:
    """Write trees, `.tensortime/` and the commit; returns its id."""
    layout = lay_out(contents)
    run_json = json.dumps(run, ensure_ascii=True, indent=1, default=str).encode() + b"\n"
    top = write_tree(writer, known, layout, {**contents.extra, **meta_files(layout), b"run.json": run_json})
    parents = [bytes.fromhex(parent)] if parent else []
    moment = (facts.edited_ns or facts.time_ns) // 1_000_000_000
    data = encode_commit(top, parents, moment, encode_message(facts))
    writer.add(pack_object(Kind.COMMIT, data))
    return Oid(object_id(Kind.COMMIT, data).hex())
