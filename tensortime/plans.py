"""What a restore puts where: read from a backup's tree and manifest, and checked before anything is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tensortime.cycles import no_cycle_search
from tensortime.errors import Damaged, message
from tensortime.formats import META, RelPath, folders_above, git_refuses_link, goes_into_git, text_of
from tensortime.history import Target, manifest_of, read_meta, run_of, skipped_in
from tensortime.manifest import FILE, FOLDER, SMALL, SYMLINK, Manifest, ManifestEntry
from tensortime.reports import Skipped
from tensortime.shadow import TreeItem
from tensortime.store import Store
from tensortime.trees import MODE_FILE, MODE_FOLDER, MODE_LINK, MODE_PROGRAM


@dataclass(frozen=True)
class Plan:
    """What a restore puts where, checked before anything is written."""

    items: Sequence[TreeItem]
    """Paths that git checks out, `.tensortime/` included."""
    manifest: Manifest
    skipped: tuple[Skipped, ...]
    """What the backup should have held and could not."""

    @property
    def changed(self) -> tuple[str, ...]:
        """The files that changed while they were backed up."""
        return tuple(text_of(entry.path) for entry in self.entries if entry.changed)

    @cached_property
    def entries(self) -> Sequence[ManifestEntry]:
        """The manifest's entries by path: folders before what is in them."""
        return [self.manifest.entries[path] for path in sorted(self.manifest.entries)]

    @cached_property
    def size(self) -> int:
        """Bytes of all files."""
        small = sum(item.size for item in self.items if item.mode != MODE_LINK and not is_meta(item.path))
        return small + sum(entry.size or 0 for entry in self.manifest.large())

    @cached_property
    def files(self) -> int:
        """How many files, links included."""
        small = sum(1 for item in self.items if item.mode != MODE_FOLDER and not is_meta(item.path))
        return small + sum(1 for entry in self.entries if entry.kind in (FILE, SYMLINK))

    @cached_property
    def has_twins(self) -> bool:
        """Whether some paths differ in letter case or Unicode's forms only: many file systems take these for one."""
        paths = {item.path for item in self.items} | self.manifest.entries.keys()
        for path in self.manifest.entries:
            paths.update(folders_above(path))
        return len({twin_of(path) for path in paths}) < len(paths)


def twin_of(path: RelPath) -> str:
    """What is equal for all paths that a file system may take for one."""
    if path.isascii():
        return path.decode().lower()
    import unicodedata  # most projects need none of it

    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text_of(path)).casefold())


def is_meta(path: bytes) -> bool:
    """Whether a path is `.tensortime` or below it."""
    return path == META or path.startswith(META + b"/")


@no_cycle_search()
def read_plan(store: Store, target: Target) -> Plan:
    """A backup's paths, without asking whether all of it can come back."""
    items = store.shadow.tree(target.commit)
    meta = read_meta(store.shadow, items)
    manifest = manifest_of(meta)
    check_paths(items, manifest)
    return Plan(items, manifest, skipped_in(run_of(meta)))


def make_plan(store: Store, target: Target) -> Plan:
    """Read a backup and check that it can come back whole; Damaged names the first path that cannot."""
    plan = read_plan(store, target)
    sidecar = store.sidecar()
    for entry in plan.manifest.entries.values():
        if (
            entry.digest is not None
            and entry.size is not None
            and not sidecar.holds(entry.digest, entry.size)
        ):
            raise Damaged(
                "{experiment} cannot come back whole: the bytes of {path} are missing or damaged ({digest})",
                experiment=target.experiment.name,
                path=text_of(entry.path),
                digest=entry.digest,
                hint=message("restore {name} --path … gives the other files", name=target.experiment.name),
            )
    return plan


def check_paths(items: Sequence[TreeItem], manifest: Manifest) -> None:
    """Damaged where a tree and its manifest cannot both be put into one folder, or reach for what is not theirs."""
    modes = {item.path: item.mode for item in items}
    for path, kind in modes.items():
        refused = kind == MODE_LINK and git_refuses_link(path.rpartition(b"/")[2])
        if refused or not goes_into_git(path):
            raise Damaged("a tree in the store is not ours: it holds {path}", path=text_of(path))
    for entry in manifest.entries.values():
        path, mode = entry.path, modes.get(entry.path)
        if is_meta(path) or b".git" in path.split(b"/"):
            raise Damaged("the manifest is damaged: {path} is not the project's", path=text_of(path))
        if entry.kind == SMALL and mode not in (MODE_FILE, MODE_PROGRAM):
            raise Damaged("the manifest is damaged: {path} is listed as a file in git", path=text_of(path))
        if entry.kind != SMALL and mode is not None and (entry.kind, mode) != (FOLDER, MODE_FOLDER):
            raise Damaged("the manifest is damaged: {path} is listed, and is in git", path=text_of(path))
        if any(modes.get(above, MODE_FOLDER) != MODE_FOLDER for above in folders_above(path)):
            raise Damaged("the manifest is damaged: {path} lies below a file", path=text_of(path))
