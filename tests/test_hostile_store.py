"""A store is data only: what somebody put into it never runs, leads nowhere, and nobody else can read it.

CASES S09, S15.
"""

import json
import os
import shlex
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree, run_cli, snapshot_of, user_git
from mounts import mounted, require_root, run
from stores import forge

import tensortime
from tensortime.errors import StoreUnusable


def canary(path: Path, sign: Path) -> Path:
    """A program that leaves a sign when it runs, and then fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "$0 $*" >> {shlex.quote(str(sign))}\nexit 1\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with an experiment `first`."""
    tree = Tree(tmp_path / "project").file("train.py", b"print(1)\n").file("data.csv", b"1,2\n")
    tree.file("weights.bin", size=1_200_000).file("run.sh", b"#!/bin/sh\n", mode=0o755)
    tensortime.backup(directory=tree.root, name="first")
    return tree.root


# --- S09: a store that somebody else prepared


def hostile_config(lines: str) -> Callable[[Path, Path], None]:
    """An attack: these lines at the end of the store's configuration."""

    def attack(shadow: Path, evil: Path) -> None:
        with open(shadow / "config", "a") as file:
            file.write(lines.format(evil=evil))

    return attack


def hostile_file(name: str, text: str) -> Callable[[Path, Path], None]:
    """An attack: a file in the shadow repository."""

    def attack(shadow: Path, evil: Path) -> None:
        (shadow / name).parent.mkdir(parents=True, exist_ok=True)
        (shadow / name).write_text(text.format(evil=evil))

    return attack


def hostile_hooks(shadow: Path, evil: Path) -> None:
    """Hooks in the shadow repository itself, and a configuration that does not turn them off."""
    shutil.copytree(evil / "hooks", shadow / "hooks")
    text = (shadow / "config").read_text()
    (shadow / "config").write_text(text.replace("\thooksPath = /dev/null\n", ""))


def hostile_worktree_config(shadow: Path, evil: Path) -> None:
    """A configuration of its own for the main and for every other worktree."""
    hostile_config("[extensions]\n\tworktreeConfig = true\n")(shadow, evil)
    for folder in (shadow, *(shadow / "worktrees").iterdir()):
        (folder / "config.worktree").write_text(f"[core]\n\tfsmonitor = {evil}/program\n")


def hostile_commondir(shadow: Path, evil: Path) -> None:
    """The shadow repository and the worktree share another one, whose configuration runs a program."""
    for folder in (shadow, *(shadow / "worktrees").iterdir()):
        (folder / "commondir").write_text(f"{evil}/repository\n")


def hostile_replacements(shadow: Path, evil: Path) -> None:
    """Every blob is replaced by another one when git is asked for it."""
    git = [f"--git-dir={shadow}"]
    other = user_git(*git, "hash-object", "-w", str(evil / "program"), cwd=evil).strip()
    for line in user_git(*git, "ls-tree", "-r", "refs/experiments/first", cwd=evil).splitlines():
        oid = line.split()[2]
        user_git(*git, "update-ref", f"refs/replace/{oid}", other, cwd=evil)
    text = (shadow / "config").read_text()
    (shadow / "config").write_text(text.replace("useReplaceRefs = false", "useReplaceRefs = true"))


ATTACKS = {
    "fsmonitor": hostile_config("[core]\n\tfsmonitor = {evil}/program\n"),
    "hooksPath": hostile_config("[core]\n\thooksPath = {evil}/hooks\n"),
    "include": hostile_config("[include]\n\tpath = {evil}/config\n"),
    "includeIf": hostile_config('[includeIf "gitdir:/**"]\n\tpath = {evil}/config\n'),
    "diff": hostile_config("[diff]\n\texternal = {evil}/program\n[core]\n\tpager = {evil}/program\n"),
    "ssh": hostile_config("[core]\n\tsshCommand = {evil}/program\n\talternateRefsCommand = {evil}/program\n"),
    "worktree": hostile_config("[core]\n\tbare = false\n\tworktree = {evil}\n"),
    "alias": hostile_config('[alias]\n\texperiments = "!{evil}/program"\n'),
    "promisor": hostile_config(
        "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tpartialClone = o\n"
        '[remote "o"]\n\turl = ext::{evil}/program\n\tpromisor = true\n[protocol]\n\tallow = always\n'
    ),
    "filter": lambda shadow, evil: (
        hostile_config('[filter "x"]\n\tclean = {evil}/program\n\tsmudge = {evil}/program\n')(shadow, evil),
        hostile_file("info/attributes", "* filter=x\n")(shadow, evil),
    ),
    "hooks": hostile_hooks,
    "config.worktree": hostile_worktree_config,
    "commondir": hostile_commondir,
    "alternates": hostile_file("objects/info/alternates", "{evil}/repository/objects\n"),
    "grafts": hostile_file("info/grafts", "0" * 40 + "\n"),
    "sparse-checkout": hostile_file("info/sparse-checkout", "/nothing\n"),
    "replace": hostile_replacements,
}


NEVER_OURS = (
    *("hooks", "config.worktree", "commondir", "info/grafts", "info/sparse-checkout"),
    "objects/info/alternates",
)


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """Programs, hooks, a configuration and a repository that leave a sign when git obeys them."""
    outside = tmp_path / "evil"
    program = canary(outside / "program", outside / "sign")
    for hook in ("post-checkout", "post-index-change", "reference-transaction", "pre-auto-gc"):
        canary(outside / "hooks" / hook, outside / "sign")
    (outside / "config").write_text(f"[core]\n\tfsmonitor = {program}\n\thooksPath = {outside}/hooks\n")
    user_git("init", "--quiet", "--bare", str(outside / "repository"), cwd=outside)
    with open(outside / "repository" / "config", "a") as file:
        file.write(f"[include]\n\tpath = {outside}/config\n")
    return outside


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hostile_store_is_data_only(attack: str, project: Path, tmp_path: Path, evil: Path) -> None:
    """S09: what a store tells git to run or read is undone before git is called, for us and for a person
    after us.
    """
    old = Path(tensortime.restore("first", directory=project).path)
    shadow = project / "tensortime" / ".shadow"
    ours = (shadow / "config").read_bytes()
    ATTACKS[attack](shadow, evil)
    assert tensortime.backup(directory=project, name="second").files == 4
    restored = Path(tensortime.restore("first", tmp_path / "restored", directory=project).path)
    assert_same_tree(project, restored)
    for folder in (old, restored):
        assert user_git("log", "--all", "--format=%s%d", cwd=folder)
        for words in (("status", "--porcelain"), ("diff",), ("add", "--all"), ("status", "--porcelain")):
            assert user_git(*words, cwd=folder) == ""
    assert not (evil / "sign").exists(), (evil / "sign").read_text()
    assert (shadow / "config").read_bytes() == ours
    assert not [name for name in NEVER_OURS if os.path.lexists(shadow / name)]


def hostile_record(shadow: Path, evil: Path) -> None:
    """The record of a worktree is a link to another repository."""
    user_git("--git-dir", str(evil / "repository"), "config", "core.bare", "false", cwd=evil)
    (record,) = (shadow / "worktrees").iterdir()
    shutil.rmtree(record)
    record.symlink_to(evil / "repository")


def hostile_index(shadow: Path, evil: Path) -> None:
    """git writes an index to where a link in its place leads."""
    (record,) = (shadow / "worktrees").iterdir()
    (record / "index").rename(evil / "index")
    (record / "index").symlink_to(evil / "index")


@pytest.mark.parametrize("attack", [hostile_commondir, hostile_record, hostile_index])
def test_any_command_puts_the_records_of_worktrees_right(
    attack: Callable[[Path, Path], None], project: Path, evil: Path
) -> None:
    """S09: after a mere `log` nothing runs, and nothing outside is written, when a person's git works in a worktree."""
    old = Path(tensortime.restore("first", directory=project).path)
    shadow = project / "tensortime" / ".shadow"
    attack(shadow, evil)
    outside = snapshot_of(evil)
    tensortime.log(directory=project)
    (old / "train.py").write_bytes(b"print(2)\n")
    for words in (("status",), ("add", "--all"), ("status",)):
        user_git(*words, cwd=old, check=False)
    assert snapshot_of(evil) == outside
    assert not list((shadow / "worktrees").rglob("*.foreign-*")), "git would follow it under that name too"


def test_purge_changes_no_folder_that_is_not_of_this_store(project: Path, tmp_path: Path) -> None:
    """S06: a record that names somebody else's restored folder leads no checkout into that."""
    other = Tree(tmp_path / "other").file("train.py", b"print(3)\n").root
    tensortime.backup(directory=other, name="theirs")
    theirs = Path(tensortime.restore("theirs", directory=other).path)
    tensortime.restore("first", directory=project)
    before = snapshot_of(theirs)
    record = project / "tensortime/.shadow/worktrees/first"
    (record / "gitdir").write_text(f"{theirs}/.git\n")
    tensortime.purge(["train.py"], directory=project)
    assert snapshot_of(theirs) == before


def test_nothing_is_appended_behind_a_link(project: Path, tmp_path: Path) -> None:
    """S06: git adds a line to the log of a ref wherever that log is."""
    mine = tmp_path / "profile"
    mine.write_text("mine\n")
    log = project / "tensortime/.shadow/logs/refs/experiments/first"
    log.parent.mkdir(parents=True)
    log.symlink_to(mine)
    tensortime.note("first", "seen", directory=project)
    assert mine.read_text() == "mine\n"
    assert tensortime.log(directory=project).experiments[0].note == "seen"


@pytest.mark.parametrize(
    "name", [".shadow/refs/tags/first", ".shadow/refs/trash/1", ".shadow/objects/00", ".records/first"]
)
def test_a_folder_below_that_leads_elsewhere_is_refused(name: str, project: Path, tmp_path: Path) -> None:
    """S06: a tag, a removal, an object would be written there, and what lies there read as records."""
    behind = tmp_path / "behind"
    behind.mkdir()
    place = project / "tensortime" / name
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(behind)
    with pytest.raises(StoreUnusable, match="symbolic link"):
        tensortime.tag("first", ["best"], directory=project)
    assert os.listdir(behind) == []


@pytest.mark.parametrize("attack", ["fsmonitor", "commondir", "alternates"])
def test_what_cannot_be_put_right_is_refused(attack: str, project: Path, evil: Path) -> None:
    """S09, D08: on a disk that is read-only, or in somebody else's store, no git is started in it."""
    require_root()
    tensortime.restore("first", directory=project)
    store = project / "tensortime"
    ATTACKS[attack](store / ".shadow", evil)
    with mounted(store, "--bind", str(store)):
        run("mount", "-o", "remount,ro,bind", str(store))
        for verb in (tensortime.log, tensortime.verify):
            with pytest.raises(StoreUnusable, match="is not ours, and cannot be"):
                verb(directory=project)
    assert not (evil / "sign").exists()
    assert len(tensortime.log(directory=project).experiments) == 1


LED_AWAY = (
    ".shadow",
    ".objects",
    ".cache",
    ".tmp",
    ".lock",
    ".objects/blake3",
    ".shadow/objects",
    ".shadow/refs",
)
LED_AWAY_DEEPER = (
    ".shadow/info",
    ".shadow/objects/pack",
    ".shadow/refs/experiments",
    ".shadow/worktrees",
    ".shadow/config",
    ".shadow/packed-refs",
    ".shadow/HEAD",
    ".shadow/refs/pins",
)


def test_a_folder_of_objects_that_leads_elsewhere_is_refused(project: Path, tmp_path: Path) -> None:
    """S09: one of the 256, found where an object is to be stored in it."""
    behind = tmp_path / "behind"
    behind.mkdir()
    for number in range(256):
        folder = project / "tensortime" / ".objects" / "blake3" / f"{number:02x}"
        if not folder.exists():
            folder.symlink_to(behind)
    Tree(project).file("new.bin", size=1_100_000)
    with pytest.raises(StoreUnusable, match="symbolic link"):
        tensortime.backup(directory=project)
    assert os.listdir(behind) == []


@pytest.mark.parametrize("name", [*LED_AWAY, *LED_AWAY_DEEPER])
def test_a_store_that_leads_elsewhere_is_refused(name: str, project: Path, tmp_path: Path) -> None:
    """S09: a folder of the store that is a symbolic link is named, and nothing is written behind it."""
    tensortime.restore("first", directory=project)
    inside, behind = project / "tensortime" / name, tmp_path / "behind"
    if not inside.exists():
        inside.mkdir()
    inside.rename(behind)
    inside.symlink_to(behind)
    before = snapshot_of(tmp_path)
    for verb in (
        lambda: tensortime.log(directory=project),
        lambda: tensortime.backup(directory=project),
        lambda: tensortime.restore("first", tmp_path / "restored", directory=project),
    ):
        with pytest.raises(StoreUnusable, match=r"(?i)symbolic link"):
            verb()
    assert snapshot_of(tmp_path) == before


ESCAPES = "\x1b]0;evil\x07\u202e\x9b31m"


@pytest.mark.parametrize(
    "runner",
    [
        {"host": ESCAPES, "pid": -1, "start": 1},
        {"host": os.uname().nodename, "pid": 10**400, "start": 10**400, "boot": ESCAPES, "space": 1},
        {"submitted": ESCAPES},
    ],
)
def test_what_a_run_says_of_itself_is_data(runner: dict[str, object], project: Path) -> None:
    """S01, X06: who ran it, its outputs, its result and what it records: no traceback, no control character, no number
    too large.
    """
    rows = ({"format": 1}, {"path": "../../etc/" + ESCAPES, "state": ESCAPES}, {"path": 5, "state": []})
    result = {"exit_code": 10**400, "signal": ESCAPES, "seconds": -1e308, "output": {"bytes": [], "cut": {}}}
    meta = {
        b"outputs": b"".join(json.dumps(row).encode() + b"\n" for row in rows),
        b"run.json": json.dumps({"result": result, "edited": [ESCAPES, 5], "command": [1, ESCAPES]}).encode(),
    }
    forge(project, "theirs", [], files={b"train.py": b"x"}, meta=meta, runner=runner)
    records = project / "tensortime/.records/theirs"
    records.mkdir(parents=True)
    (records / "records.jsonl").write_text(r'{"\u001b[2J": "\u009b31m", "loss": 1e999}' + "\n")
    for words in (["log"], ["show", "theirs"], ["diff", "first", "theirs"]):
        done = run_cli(*words, cwd=project)
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        assert not [one for one in said if not one.isprintable() and one not in "\n\t"], said


# --- S15: who may read it


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Run the test under this umask."""
    before = os.umask(request.param)
    yield request.param
    assert os.umask(before) == request.param, "a verb changed the umask of the process"


def test_nobody_else_can_read_a_store(umask: int, tmp_path: Path) -> None:
    """S15: folders 0700, files 0600, objects and packs 0400, whatever the umask; restored files have their
    own modes.
    """
    tree = (
        Tree(tmp_path / "project")
        .file("train.py", mode=0o644)
        .file("weights.bin", size=1_200_000, mode=0o640)
    )
    tree.file("run.sh", mode=0o755).file("secret", mode=0o600).folder("empty", mode=0o755)
    user_git("init", "--quiet", cwd=tree.root)
    tensortime.backup(directory=tree.root, name="first")
    restored = Path(tensortime.restore("first", directory=tree.root).path)
    tensortime.backup(directory=restored, name="second")
    store = tree.root / "tensortime"
    assert stat.S_IMODE(store.stat().st_mode) == 0o700
    found = snapshot_of(store, exclude=["first"])
    frozen = (b".objects/", b".shadow/objects/pack/")
    for path, entry in found.items():
        wanted = 0o700 if entry.kind == "folder" else 0o400 if path.startswith(frozen) else 0o600
        assert entry.mode == wanted, f"{os.fsdecode(path)} has mode {entry.mode:04o}"
    assert sum(path.startswith(frozen) for path in found) > 4
    assert_same_tree(tree.root, restored)
