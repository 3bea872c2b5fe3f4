"""The damage matrix: every kind of file in the store, harmed in every way. CASES X01, X02, X04, X07, X08.

Whatever is harmed: no wrong byte comes out, no exception but our own, what is damaged has a name, and experiments that
do not need it stay as they were.
"""

import contextlib
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from builders import Entry, Tree, noise, snapshot_of

from tensortime import api, maintenance, upkeep
from tensortime.errors import TensorTimeError
from tensortime.store import open_store

ALPHA, BETA = "alpha", "beta"
Harm = Callable[[Path, Path], object]
Verb = Callable[[Path], object]


class Template(NamedTuple):
    """A project whose store has every kind of file, and what its backups hold."""

    project: Path
    trees: Mapping[str, Mapping[bytes, Entry]]
    files: Mapping[str, str]
    """Kind to the path in the store; `other …` are the ones to swap with."""


MADE: list[Template] = []


@pytest.fixture
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Made by the first test that needs it, never changed."""
    if not MADE:
        MADE.append(make(tmp_path_factory.mktemp("matrix")))
    return MADE[0]


def make(folder: Path) -> Template:
    """`alpha` is known by a line of packed-refs, `beta` by a ref of its own and restored; `gone` is in the trash."""
    project, store = folder / "project", folder / "project/tensortime"
    tree = Tree(project).file("tensortime.toml", b'large_size = 1024\nhardlink = ["links/*"]\n')
    tree.file("train.py", b"lr = 1\n" * 30).file("src/model.py", b"width = 8\n" * 30)
    tree.file("data/part.bin", noise(b"alpha", 3000)).file("links/set.bin", size=2000)
    packs: dict[str, str] = {}
    api.backup(directory=project, name=ALPHA)
    note_packs(store, packs, "alpha")
    api.tag(ALPHA, ["best"], directory=project)
    shadow = open_store(str(store)).shadow
    shadow.run("pack-refs", "--all")
    for path, data in {"train.py": b"lr = 2\n" * 30, "src/model.py": b"width = 9\n" * 30}.items():
        tree.file(path, data)
    tree.file("data/part.bin", noise(b"beta", 3000)).file("odd.key", b"k" * 50, mode=0o600)
    tree.file("tensortime.toml", b'large_size = 1024\nhardlink = ["links/*"]\n# beta\n')
    api.backup(directory=project, name=BETA)
    note_packs(store, packs, "beta")
    api.tag(BETA, ["good"], directory=project)
    api.backup(directory=project, name="gone")
    upkeep.rm(["gone"], directory=project)
    api.restore(BETA, directory=project)
    maintenance.verify(read_data="5%", directory=project)
    (store / ".shadow/purging").write_text('{"blobs": [], "digests": []}')
    (store / ".cache/withdrawn").write_text('{"objects": {}, "packs": {}, "copies": {}}')
    blob = b"a loose object, as git writes it when a person commits in a worktree"
    shadow.run("hash-object", "-w", "--stdin", stdin=blob)
    trees = {name: restored(project, name, folder / name) for name in (ALPHA, BETA)}
    return Template(project, trees, kinds(store, packs, trees))


def note_packs(store: Path, packs: dict[str, str], name: str) -> None:
    """Which pack came with a backup: the one that was not there before."""
    for path in (store / ".shadow/objects/pack").glob("*.pack"):
        packs.setdefault(path.stem, name)


def kinds(
    store: Path, packs: Mapping[str, str], trees: Mapping[str, Mapping[bytes, Entry]]
) -> dict[str, str]:
    """One file of each kind."""
    found = {
        "README": "README",
        "gitignore": ".gitignore",
        "lock": ".lock",
        "fold lock": ".tmp/fold.lock",
        "config": ".shadow/config",
        "HEAD": ".shadow/HEAD",
        "attributes": ".shadow/info/attributes",
        "packed-refs": ".shadow/packed-refs",
        "ref": f".shadow/refs/experiments/{BETA}",
        "tag": f".shadow/refs/tags/{BETA}/good",
        "purging": ".shadow/purging",
        "withdrawn": ".cache/withdrawn",
        "hardlinks": ".cache/hardlinks",
        "verify": ".cache/verify",
        "worktree's gitfile": f"{BETA}/.git",
        **{f"record's {name}": f".shadow/worktrees/{BETA}/{name}" for name in
           ("HEAD", "commondir", "gitdir", "index", "tensortime")},
    }  # fmt: skip
    for stem, name in packs.items():
        found[f"pack of {name}"] = f".shadow/objects/pack/{stem}.pack"
        found[f"idx of {name}"] = f".shadow/objects/pack/{stem}.idx"
    sizes = {path: path.stat().st_size for path in (store / ".objects/blake3").glob("*/*")}
    for path, size in sizes.items():
        mine = [name for name in (ALPHA, BETA) if path.read_bytes() == noise(name.encode(), size)]
        found[f"object of {mine[0]}" if mine else "linked object"] = str(path.relative_to(store))
    for pattern, kind in (
        (".cache/stat-*", "stat cache"),
        (".shadow/refs/trash/*/gone", "ref in the trash"),
        (".shadow/objects/??/*", "loose object"),
    ):
        (path,) = store.glob(pattern)
        found[kind] = str(path.relative_to(store))
    assert set(KINDS) <= found.keys()
    return found


def restored(project: Path, name: str, out: Path) -> dict[bytes, Entry]:
    """What comes back of an experiment; nothing is left of it."""
    api.restore(name, out, directory=project)
    found = snapshot_of(out, exclude=[".git", ".tensortime"])
    shutil.rmtree(out)
    return found


def rewrite(path: Path, data: bytes) -> None:
    """Other bytes in a new file of the same mode."""
    mode = stat.S_IMODE(path.lstat().st_mode)
    path.unlink()
    path.write_bytes(data)
    path.chmod(mode)


def flip(path: Path, at: int) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    if data:
        data[at // 8 % len(data)] ^= 1 << at % 8
        rewrite(path, bytes(data))


def replaced_by(make_it: Callable[[Path], object]) -> Harm:
    """Something else in place of the file."""

    def harm(path: Path, _: Path) -> None:
        path.unlink()
        make_it(path)

    return harm


HARMS: dict[str, Harm] = {
    "flipped": lambda path, _: flip(path, path.stat().st_size * 4),
    "flipped at its end": lambda path, _: flip(path, path.stat().st_size * 8 - 12),
    "cut in half": lambda path, _: rewrite(path, path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path, _: rewrite(path, b""),
    "garbage": lambda path, _: rewrite(path, b"\0\xffgarbage\n" * 20),
    "brackets without end": lambda path, _: rewrite(path, b"[" * 60_000),
    "infinity": lambda path, _: rewrite(path, re.sub(rb"\d+", b"1e999", path.read_bytes())),
    "deleted": lambda path, _: path.unlink(),
    "swapped": lambda path, other: rewrite(path, other.read_bytes()),
    "a folder": replaced_by(Path.mkdir),
    "a full folder": replaced_by(lambda path: (path / "x").mkdir(parents=True)),
    "a link": replaced_by(lambda path: path.symlink_to("/etc/hostname")),
    "a link to itself": replaced_by(lambda path: path.symlink_to(path.name)),
    "a FIFO": replaced_by(os.mkfifo),
}


def back_up(project: Path) -> None:
    """A backup beside the damage comes back as the project is."""
    report = api.backup(directory=project, name="new")
    now = snapshot_of(project, exclude=["tensortime"])
    assert report.exit_code == 3 or restored(project, "new", project.parent / "new") == now, (
        "wrong bytes of new"
    )


VERBS: dict[str, Verb] = {
    "backup": back_up,
    "show": lambda project: api.show(BETA, directory=project),
    "show PATH": lambda project: api.read_file(BETA, "train.py", directory=project),
    "diff": lambda project: api.diff(ALPHA, BETA, directory=project),
    "du": lambda project: upkeep.du(directory=project),
    "doctor": lambda project: maintenance.doctor(directory=project),
    "add": lambda project: api.backup(directory=project, add=["train.py"], name=BETA, joins=True),
    "note": lambda project: api.note(ALPHA, "seen", directory=project),
    "tag": lambda project: api.tag(BETA, ["x"], directory=project),
    "undelete": lambda project: upkeep.undelete(["gone"], directory=project),
    "rm": lambda project: upkeep.rm([ALPHA], directory=project),
    "rm --worktree": lambda project: upkeep.rm_worktree(BETA, directory=project),
    "gc": lambda project: maintenance.gc(directory=project),
    "purge": lambda project: maintenance.purge(["fresh.txt"], directory=project),
    "verify --repair": lambda project: maintenance.verify(read_data="all", repair=True, directory=project),
}

NEEDED_BY: dict[str, set[str]] = {
    "pack of alpha": {ALPHA, BETA}, "idx of alpha": {ALPHA, BETA}, "object of alpha": {ALPHA},
    "pack of beta": {BETA}, "idx of beta": {BETA}, "object of beta": {BETA}, "ref": {BETA},
    "linked object": {ALPHA, BETA}, "config": {ALPHA, BETA}, "packed-refs": {ALPHA, BETA},
}  # fmt: skip
"""Who may suffer. What only saves time, or can be written anew, nobody needs."""

REFUSED = {"lock", "HEAD", "config", "packed-refs"}
"""A link in the place of these could lead anywhere: the store is refused, and the link is named."""


class Judge:
    """One damaged copy of the template, and what is asked of it."""

    def __init__(self, template: Template, folder: Path, kind: str, how: str) -> None:
        self.template, self.kind, self.how = template, kind, how
        self.project, self.out = folder / "project", folder / "out"
        self.said: list[str] = []
        shutil.copytree(template.project, self.project, symlinks=True)
        store, files = self.project / "tensortime", template.files
        self.path = store / files[kind]
        other = next(
            (name for name in files if name != kind and name.split()[0] == kind.split()[0]), "README"
        )
        HARMS[how](self.path, store / files[other])

    def ask(self, verb: Verb) -> object:
        """What a verb returns; None where it fails, as only our own errors may."""
        try:
            return verb(self.project)
        except TensorTimeError as problem:
            self.said.append(f"{problem} {problem.hint}")
            return None

    def come_back(self) -> set[str]:
        """The experiments that do not come back; no wrong byte of any does, and nothing is left of those."""
        lost = set()
        for name, tree in self.template.trees.items():
            out = self.out.with_name(f"out-{name}")
            try:
                found = restored(self.project, name, out)
            except TensorTimeError as problem:
                assert not os.path.lexists(out), f"{self}: {name} is there in part"
                self.said.append(f"{problem} {problem.hint}")
                lost.add(name)
            else:
                assert found == tree, f"{self}: wrong bytes of {name}"
        return lost

    def is_named(self) -> bool:
        """Whether something that was said, or found by verify, names what is damaged or who needs it."""
        names = {
            "this store",
            ALPHA,
            BETA,
            self.path.name,
            self.path.stem,
            os.path.basename(self.path.parent) + self.path.name,
        }
        report = self.ask(lambda project: maintenance.verify(read_data="all", directory=project))
        found = [repr(one) for one in getattr(report, "problems", ())]
        return any(name in text for text in (*self.said, *found) for name in names)

    def __str__(self) -> str:
        return f"{self.kind} {self.how}"


def judge(template: Template, folder: Path, kind: str, how: str, verbs: Mapping[str, Verb]) -> None:
    """All that is promised of one kind of file, harmed in one way."""
    one = Judge(template, folder, kind, how)
    one.ask(lambda project: api.log(directory=project))
    lost = one.come_back()
    allowed = {ALPHA, BETA} if kind in REFUSED and "link" in how else NEEDED_BY.get(kind, set())
    assert lost <= allowed, f"{one}: {lost} should be whole: {one.said}"
    assert not lost or one.is_named(), f"{one}: {one.said}"
    Tree(one.project).file("fresh.txt", b"fresh")
    for verb in verbs.values():
        one.ask(verb)
    # Where its ref is gone there is no such experiment any more: an add has begun another one of that name.
    if len(verbs) > 1 and kind != "ref":
        one.come_back()
    shutil.rmtree(folder)


KINDS = (
    *(
        "README",
        "gitignore",
        "lock",
        "fold lock",
        "config",
        "HEAD",
        "attributes",
        "packed-refs",
        "ref",
        "tag",
    ),
    *("ref in the trash", "purging", "withdrawn", "hardlinks", "verify", "stat cache", "worktree's gitfile"),
    *("record's HEAD", "record's commondir", "record's gitdir", "record's index"),
    *(
        "record's tensortime",
        "pack of alpha",
        "idx of alpha",
        "pack of beta",
        "idx of beta",
        "object of alpha",
    ),
    *("object of beta", "linked object", "loose object"),
)


def harms_of(kind: str) -> list[str]:
    """All harms; git itself waits for ever at a FIFO that lies among its refs and objects."""
    ours = kind.split()[0] not in ("ref", "tag", "pack", "idx", "loose") and "record" not in kind
    return [how for how in HARMS if ours or how != "a FIFO"]


FOUND = {
    ("idx of alpha", "deleted"): "show",
    ("idx of alpha", "flipped"): "diff",
    ("idx of alpha", "a folder"): "verify --repair",
    ("worktree's gitfile", "garbage"): "rm --worktree",
    ("record's commondir", "a folder"): "gc",
    ("gitignore", "a folder"): "du",
    ("HEAD", "empty"): "doctor",
    ("lock", "a full folder"): "note",
    ("fold lock", "a folder"): "verify --repair",
    ("linked object", "a full folder"): "backup",
    ("config", "a folder"): "backup",
    ("ref in the trash", "empty"): "undelete",
    ("hardlinks", "infinity"): "backup",
    ("withdrawn", "brackets without end"): "add",
    ("packed-refs", "a FIFO"): "rm",
}
"""What once went wrong, and with which verb."""


def test_some_of_the_matrix(template: Template, tmp_path: Path, tally: Callable[[str, int], None]) -> None:
    """X01, X08: never wrong bytes, never a foreign exception, a name for it, and the others stay whole."""
    for number, kind in enumerate(KINDS):
        hows = harms_of(kind)
        how, verb = hows[number * 5 % len(hows)], list(VERBS)[number % len(VERBS)]
        judge(template, tmp_path / "state", kind, how, {verb: VERBS[verb]})
    tally("damages", len(KINDS))


@pytest.mark.parametrize(("kind", "how"), FOUND)
def test_what_once_went_wrong(
    template: Template, tmp_path: Path, kind: str, how: str, tally: Callable[[str, int], None]
) -> None:
    """X01, X08: the same, of damage that once was met by a foreign exception, or stopped what had no need of it."""
    verb = FOUND[kind, how]
    judge(template, tmp_path / "state", kind, how, {verb: VERBS[verb]})
    tally("damages", 1)


CLOSED_FOLDERS = (
    ".shadow/refs",
    ".shadow/refs/tags",
    ".shadow/objects",
    ".shadow/worktrees",
    ".objects",
    ".cache",
)


def close_each(folder: Path) -> None:
    """Each kind of file, and some folders, with mode 000, for a user whom modes stop; a verb each."""
    template = make(folder)
    HARMS["closed"] = lambda path, _: path.chmod(0)
    for number, kind in enumerate(KINDS):
        verb = list(VERBS)[number * 2 % len(VERBS)]
        judge(template, folder / "state", kind, "closed", {verb: VERBS[verb]})
    for number, name in enumerate(CLOSED_FOLDERS):
        place = template.project / "tensortime" / name
        mode = stat.S_IMODE(place.stat().st_mode)
        place.chmod(0)
        for verb in ("verify --repair", "gc", "doctor", list(VERBS)[number]):
            with contextlib.suppress(TensorTimeError):
                VERBS[verb](template.project)
        place.chmod(mode)


def test_what_may_not_be_read(tmp_path: Path, tally: Callable[[str, int], None]) -> None:
    """X01, D09: mode 000, which stops everybody but root: the same is promised of it as of other damage."""
    program = (
        "import sys; from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1]); import test_damage_matrix as matrix\n"
        "matrix.close_each(Path(sys.argv[2]))"
    )
    powers = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if powers and shutil.which("setpriv") is None:
        pytest.skip("setpriv is missing: apt install util-linux")
    command = [*powers, sys.executable, "-c", program, os.path.dirname(__file__), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    subprocess.run(["chmod", "-R", "u+rwX", str(tmp_path)], check=False)
    assert done.returncode == 0, done.stderr
    tally("damages", len(KINDS) + len(CLOSED_FOLDERS))


@pytest.mark.parametrize("how", ["cut in half", "garbage", "a folder"])
def test_repair_saves_the_names(template: Template, tmp_path: Path, how: str) -> None:
    """X01: of a damaged packed-refs the whole lines stay, and backups whose line is lost are `found-…`: gc frees none."""
    one = Judge(template, tmp_path / "state", "packed-refs", how)
    maintenance.verify(repair=True, directory=one.project)
    maintenance.gc(directory=one.project)
    listed = api.log(directory=one.project)
    assert BETA in {each.name for each in listed.experiments}
    wanted = [
        each.name for each in listed.experiments if each.name == ALPHA or each.name.startswith("found-")
    ]
    for name in wanted:
        if restored(one.project, name, tmp_path / "found") == template.trees[ALPHA]:
            break
    else:
        raise AssertionError(f"{how}: alpha is nowhere in {wanted}")


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_every_verb_on_every_damage(
    template: Template, tmp_path: Path, kind: str, tally: Callable[[str, int], None]
) -> None:
    """X01, X08: the whole matrix, each state with every verb."""
    for how in harms_of(kind):
        judge(template, tmp_path / "state", kind, how, VERBS)
        tally("damages", 1)
