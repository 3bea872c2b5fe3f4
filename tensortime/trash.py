"""The trash: `rm` moves an experiment's refs there, `undelete` moves them back. No byte is written or freed.

    refs/experiments/<name>  refs/tags/<name>/<tag>   <──>   refs/trash/<time>/<name>  refs/trash/<time>/@<name>/<tag>

All refs of a call move or none: one `git update-ref` transaction creates the new ones, each at the commit the old one
was seen at, and when these are on the disk another one deletes the old. The tags
go along, so that an experiment that takes the name later has none of them.
"""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence

from tensortime.errors import (
    AmbiguousName,
    Damaged,
    GitFailed,
    Message,
    NoSpace,
    NotFound,
    Protected,
    StoreBusy,
    TensorTimeError,
    UnknownExperiment,
    UsageError,
    message,
)
from tensortime.experiments import DamagedRef, Experiment
from tensortime.formats import Oid
from tensortime.history import (
    EXPERIMENTS,
    TAGS,
    TRASH,
    Catalog,
    experiment_ref,
    read_catalog,
    read_experiment,
    resolve_experiment,
)
from tensortime.inventory import Choice, RemovalPlan, Restored, Returned, Trash, Trashed
from tensortime.names import free_name
from tensortime.project import admin_folder, read_parent
from tensortime.records import put_into_trash, take_out_of_trash
from tensortime.retention import PROTECTING
from tensortime.shadow import Ref, Shadow, ref_has_moved
from tensortime.store import Store
from tensortime.worktrees import read_line, records

Move = tuple[str, str, Oid]
"""A ref, the ref it becomes, and the commit that both name."""

FULL_DISK = (
    "no space left",
    "quota exceeded",
    "couldn't write",
    "could not write",
    "unable to create directory",
)
"""What git says, in lower case, where a ref finds no room; the file's name follows, the reason often does not."""


def plan_named(catalog: Catalog, experiments: Iterable[Experiment]) -> RemovalPlan:
    """The plan to remove these. Protected if one of them is tagged `keep`."""
    chosen = dict.fromkeys(one.name for one in experiments)
    for name in chosen:
        one = catalog.find(name)
        if one is not None and PROTECTING in one.tags:
            raise Protected(
                "{name} is tagged keep, nothing was removed",
                name=name,
                hint=message("tensortime tag {name} --remove keep lets it go", name=name),
            )
    named = [one for one in catalog.experiments if one.name in chosen]
    return RemovalPlan(tuple(Choice(one, False, message("named")) for one in named))


def refuse_single_backup(text: str) -> None:
    """UsageError for `NAME:2`: rm takes whole experiments."""
    name, colon, number = text.rpartition(":")
    if colon and name and number.isdecimal():
        raise UsageError(
            "{text} is one backup of an experiment: rm removes whole experiments",
            text=text,
            hint=message("tensortime rm {name} removes all its backups", name=name),
        )


def read_trash(shadow: Shadow) -> Trash:
    """What the trash holds, the last removed first."""
    listed = shadow.refs(TRASH)
    experiments: dict[str, Ref] = {}
    tags: dict[str, list[Ref]] = {}
    damaged = [DamagedRef(name, "the ref is empty or broken") for name in listed.broken if TRASH in name]
    for ref in listed.refs:
        when, _, rest = ref.name.removeprefix(TRASH).partition("/")
        if not when.isdecimal() or not rest:
            damaged.append(DamagedRef(ref.name, "not a name that TensorTime gives"))
        elif rest.startswith("@") and ref.commit is None:
            damaged.append(DamagedRef(ref.name, f"its commit {ref.oid[:12]} is missing or damaged"))
        elif rest.startswith("@"):
            tags.setdefault(f"{when}/{rest.partition('/')[0][1:]}", []).append(ref)
        else:
            experiments[f"{when}/{rest}"] = ref
    found = []
    for key, ref in experiments.items():
        when, _, name = key.partition("/")
        own = tags.get(key, [])
        read = read_experiment(
            ref._replace(name=EXPERIMENTS + name), [one.name.rpartition("/")[2] for one in own]
        )
        if isinstance(read, Experiment):
            found.append(Trashed(read, int(when), tuple((one.name, one.oid) for one in (ref, *own))))
        else:
            damaged.append(DamagedRef(ref.name, read.reason))
    found.sort(key=lambda one: (one.removed_ns, one.experiment.name), reverse=True)
    return Trash(tuple(found), tuple(damaged))


def remove(store: Store, experiments: Sequence[Experiment]) -> None:
    """Move these experiments into the trash, all or none. StoreBusy if one got a backup meanwhile."""
    if not experiments:
        return
    with store.in_use():
        tags: dict[str, list[Ref]] = {}
        for ref in store.shadow.refs(TAGS).refs:
            tags.setdefault(ref.name.removeprefix(TAGS).rpartition("/")[0], []).append(ref)
        newest = max((one.removed_ns for one in read_trash(store.shadow).entries), default=0)
        now = max(time.time_ns(), newest + 1)
        moves: list[Move] = []
        # The newest experiment is the newest in the trash as well.
        for when, one in enumerate(reversed(experiments), now):
            moves.append((experiment_ref(one.name), f"{TRASH}{when}/{one.name}", one.commit))
            for ref in tags.get(one.name, []):
                tag = ref.name.rpartition("/")[2]
                moves.append((ref.name, f"{TRASH}{when}/@{one.name}/{tag}", ref.oid))
        move_refs(store, moves)
        for when, one in enumerate(reversed(experiments), now):
            put_into_trash(store.folder, one.name, when)


def move_refs(store: Store, moves: Sequence[Move]) -> None:
    """Rename refs, all or none: the new ones are on the disk before the old ones go.

    StoreBusy if one of them is no longer what it was; NoSpace.
    """
    create = [f"create {new}\0{oid}\0verify {old}\0{oid}\0" for old, new, oid in moves]
    delete = [f"delete {old}\0{oid}\0" for old, _, oid in moves]
    make_room_and_transact(store, create)
    store.sync_refs(new for _, new, _ in moves)
    try:
        make_room_and_transact(store, delete)
    except StoreBusy:
        # Refused: nothing of it was done.
        transact(store, [f"delete {new}\0{oid}\0" for _, new, oid in moves])
        raise
    except TensorTimeError:
        # A git that was killed may have deleted some: the new ones go only where every old one is still there.
        with contextlib.suppress(TensorTimeError):
            transact(store, [f"verify {old}\0{oid}\0delete {new}\0{oid}\0" for old, new, oid in moves])
        raise
    store.sync_refs()


def make_room_and_transact(store: Store, rows: Sequence[str]) -> None:
    """One transaction. A ref needs a block before it gives one back: on a full disk what only saves time goes first."""
    try:
        transact(store, rows)
    except NoSpace:
        store.drop_caches()
        transact(store, rows)


def transact(store: Store, rows: Sequence[str]) -> None:
    """One transaction of `update-ref`, all or nothing."""
    lines = "".join(rows).encode("utf-8", "surrogateescape")
    done = store.shadow.run("update-ref", "--no-deref", "-z", "--stdin", stdin=lines, accept=(0, 1, 128))
    if done.returncode == 0:
        return
    said = done.stderr.decode("utf-8", "replace").strip()
    if any(words in said.lower() for words in FULL_DISK):
        raise NoSpace(
            "no ref can be written, the disk is probably full: {said}",
            said=said[:500],
            hint="make a few kilobytes of room on that disk with a file of your own, then type it again",
        )
    if ref_has_moved(done.stderr):
        raise StoreBusy(
            "another process changed one of these experiments meanwhile, nothing was removed or taken back",
            hint="type it again",
        )
    raise GitFailed("git update-ref failed with code {code}: {said}", code=done.returncode, said=said[:500])


def undelete(store: Store, texts: Sequence[str]) -> tuple[Returned, ...]:
    """Take experiments back, all or none: by name (of several the last removed), part of one, `@` the last removed."""
    with store.in_use():
        trash = read_trash(store.shadow)
        chosen = {one.removed_ns: one for one in (find_trashed(trash, text) for text in texts)}
        tagged = (ref.name.removeprefix(TAGS).rpartition("/")[0] for ref in store.shadow.refs(TAGS).refs)
        taken = read_catalog(store.shadow).taken_names() | {name.lower() for name in tagged}
        moves: list[Move] = []
        returned = []
        for one in chosen.values():
            was = one.experiment.name
            name = free_name(was, taken)
            taken.add(name.lower())
            returned.append(Returned(name, was, one.experiment.commit))
            for ref, oid in one.refs:
                tag = ref.rpartition("/")[2] if f"/@{was}/" in ref else None
                moves.append((ref, experiment_ref(name) if tag is None else f"{TAGS}{name}/{tag}", oid))
        move_refs(store, moves)
        for one, back in zip(chosen.values(), returned, strict=True):
            take_out_of_trash(store.folder, one.removed_ns, back.experiment)
    return tuple(returned)


def find_trashed(trash: Trash, text: str) -> Trashed:
    """What a person means of the trash. UnknownExperiment, AmbiguousName."""
    newest: dict[str, Trashed] = {}
    for one in trash.entries:
        newest.setdefault(one.experiment.name, one)
    found = Catalog(tuple(one.experiment for one in newest.values()), ())
    lost = {one.ref.rpartition("/")[2]: one.reason for one in trash.damaged if "/@" not in one.ref}
    if text in lost and text not in newest:
        raise Damaged("the experiment {name} is damaged: {reason}", name=text, reason=lost[text])
    refuse_nothing(found, text)
    try:
        return newest[resolve_experiment(found, text).name]
    except AmbiguousName:
        raise
    except UnknownExperiment as problem:
        raise UnknownExperiment(
            "nothing in the trash is called {text}",
            text=text[:80],
            hint="tensortime undelete lists the trash",
        ) from problem


def refuse_nothing(found: Catalog, text: str) -> None:
    """UnknownExperiment where nothing was asked for, or the trash is empty."""
    if not text.strip():
        raise UnknownExperiment("the name is empty", hint="tensortime undelete lists the trash")
    if not found.experiments:
        raise UnknownExperiment("the trash is empty", hint="tensortime log lists the experiments")


def trash_hint(shadow: Shadow, text: str) -> Message | None:
    """Where a name that is not found lies in the trash: what takes it back."""
    with contextlib.suppress(NotFound, Damaged, GitFailed):
        name = find_trashed(read_trash(shadow), text.partition(":")[0]).experiment.name
        return message("{name} is in the trash: tensortime undelete {name} takes it back", name=name)
    return None


def restored_folders(store: Store) -> Iterator[tuple[str, Restored]]:
    """The restored worktrees of a store that are there, each with its record's folder."""
    for admin in records(store):
        folder = os.path.dirname(read_line(os.path.join(admin, "gitdir")))
        parent = read_parent(admin)
        if parent is not None and folder and admin_folder(folder) == os.path.realpath(admin):
            yield admin, Restored(parent.experiment, parent.number, folder)
