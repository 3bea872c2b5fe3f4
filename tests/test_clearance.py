"""rm --worktree: a restored folder goes, after it was compared, and nothing but it. CASES C04, X13."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import Tree, run_cli, snapshot_of, user_git
from mounts import small_tmpfs

import tensortime
from tensortime.errors import AmbiguousName, NotFound, Protected, StoreBusy
from tensortime.inventory import ClearingReport
from tensortime.store import open_store


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Small and large files, a link, an ignored folder; experiments `first` (two backups) and `second`."""
    tree = Tree(tmp_path / "p").file("train.py", b"print(1)\n").file("data/part.bin", size=1_100_000)
    tree.file("weights.bin", size=1_200_000).file("src/net.py", b"x = 1\n").symlink("last", "src")
    tree.file(".gitignore", b"outputs/\n").file("outputs/log.txt", b"epoch 1\n").folder("empty")
    tree.symlink(".gitattributes", "nowhere")
    tensortime.backup(directory=tree.root, name="first")
    tensortime.backup(directory=tree.file("out.txt", b"o").root, name="first", add=["out.txt"])
    tensortime.backup(directory=tree.root, name="second")
    return tree.root


def restored(name: str, project: Path, destination: Path | None = None) -> Path:
    """The folder of a new worktree."""
    return Path(tensortime.restore(name, destination, directory=project).path)


def cleared(text: str, project: Path, *, force: bool = False) -> ClearingReport:
    """Remove a restored folder."""
    return tensortime.rm_worktree(text, force=force, directory=project)


def records(project: Path) -> list[str]:
    """The worktrees that the store knows."""
    return sorted(os.listdir(project / "tensortime/.shadow/worktrees"))


def pins(project: Path) -> dict[str, str]:
    """The refs that keep a person's commits."""
    git_dir = f"--git-dir={project / 'tensortime/.shadow'}"
    listed = user_git(git_dir, "for-each-ref", "--format=%(refname) %(objectname)", "refs/pins", cwd=project)
    return dict(line.split(" ") for line in listed.splitlines())


@pytest.mark.parametrize("how", ["name", "part", "@", "number", "path", "relative path"])
def test_an_unchanged_folder_goes(how: str, project: Path) -> None:
    """By the experiment's name, a part of it, its backup or its path: the folder and git's record are gone, all else
    is as it was, and the experiment can be restored again."""
    before = snapshot_of(project)
    folder = restored("second", project)
    words = {"name": "second", "part": "sec", "@": "@", "number": "second:1", "path": str(folder)}
    words["relative path"] = "tensortime/second"
    done = run_cli("rm", "--worktree", words[how], cwd=project)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (f"removed the restored folder {folder}\nrestore: tensortime restore second:1\n")
    assert not folder.exists() and records(project) == []
    after = snapshot_of(project)
    own = (b"tensortime/.shadow/worktrees", b"tensortime/.tmp/")
    assert {p: e for p, e in after.items() if not p.startswith(own)} == {
        p: e for p, e in before.items() if not p.startswith(own)
    }
    assert restored("second", project) == folder


def test_a_folder_elsewhere_is_found_through_its_record(project: Path, tmp_path: Path) -> None:
    """A folder that was restored anywhere, also one that was moved with its project since, goes by the name."""
    folder = restored("second", project, tmp_path / "elsewhere" / "here")
    assert cleared("second", project).folder.path == str(folder)
    assert not folder.exists() and folder.parent.exists()
    restored("second", project, project / "kept")
    moved = project.rename(tmp_path / "moved")
    assert cleared("second", moved).folder.path == str(moved / "kept")
    assert not (moved / "kept").exists()


def stage_and_delete(top: Path) -> None:
    """A new file whose bytes only the index has."""
    (top / "new.py").write_text("x")
    user_git("add", "new.py", cwd=top)
    (top / "new.py").unlink()


def nest_repository(top: Path) -> None:
    """A repository of its own in the folder."""
    user_git("init", "-q", "sub", cwd=top)
    (top / "sub/x").write_text("x")


def own_history(top: Path) -> None:
    """A repository of its own around files of the backup: these have not changed, but its commits are nowhere else."""
    user_git("init", "-q", ".", cwd=top / "src")
    user_git("add", "-A", ".", cwd=top / "src")
    user_git("commit", "-q", "-m", "mine", cwd=top / "src")


def hidden_from_git(option: str) -> Callable[[Path], None]:
    """A changed file that git was told not to look at."""

    def change(top: Path) -> None:
        user_git("update-index", option, "train.py", cwd=top)
        (top / "train.py").write_text("print(2)\n")

    return change


def folder_for_file(top: Path) -> None:
    """A folder in place of a large file."""
    (top / "weights.bin").unlink()
    (top / "weights.bin").mkdir()
    (top / "weights.bin/mine").write_text("m")


def lead_elsewhere(top: Path) -> None:
    """Another target for a link that only the manifest has."""
    (top / ".gitattributes").unlink()
    (top / ".gitattributes").symlink_to("mine")


CHANGES: dict[str, Callable[[Path], object]] = {
    "edited": lambda top: (top / "train.py").write_text("print(2)\n"),
    "mode": lambda top: (top / "train.py").chmod(0o755),
    "new": lambda top: (top / "new.py").write_text(""),
    "staged": stage_and_delete,
    "ignored by the project": lambda top: (top / "outputs/more.txt").write_text("epoch 2\n"),
    "beside a large file": lambda top: (top / "data/notes.txt").write_text("n"),
    "secret": lambda top: (top / ".env").write_text("TOKEN=1"),
    "secret beside a large file": lambda top: (top / "data/.env").write_text("TOKEN=1"),
    "a repository in it": nest_repository,
    "a repository around files of the backup": own_history,
    "skip-worktree": hidden_from_git("--skip-worktree"),
    "assume-unchanged": hidden_from_git("--assume-unchanged"),
    "large, another size": lambda top: (top / "weights.bin").write_bytes(b"x"),
    "large, same size": lambda top: (top / "weights.bin").write_bytes(bytes(1_200_000)),
    "a folder for a large file": folder_for_file,
    "a link that git refuses": lead_elsewhere,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_folder_stays(change: str, project: Path) -> None:
    """Whatever the backup does not have: it is named, nothing is touched, exit code 1; --force removes it."""
    folder = restored("second", project)
    CHANGES[change](folder)
    before = snapshot_of(folder)
    done = run_cli("rm", "--worktree", "second", cwd=project)
    assert done.returncode == 1, done.stdout
    assert f"{folder} holds what its backup does not: " in done.stderr and "--force" in done.stderr
    assert snapshot_of(folder) == before and records(project) == ["second"]
    report = cleared("second", project, force=True)
    assert report.changed and not folder.exists() and records(project) == []


def test_what_is_no_loss(project: Path) -> None:
    """Deleted files, the caches that tools make again, and a large file whose time alone is another."""
    folder = restored("second", project)
    (folder / "src/__pycache__").mkdir()
    (folder / "src/__pycache__/net.pyc").write_bytes(b"x")
    (folder / "data/__pycache__").mkdir()
    (folder / "data/__pycache__/x.pyc").write_bytes(b"x")
    (folder / "out.txt").unlink()
    (folder / "data/part.bin").unlink()
    os.utime(folder / "weights.bin")
    assert cleared("second", project).changed == ()
    assert not folder.exists()


@pytest.mark.parametrize("link", ["symlink", "hardlink"])
def test_links_into_the_store_are_not_followed(link: str, project: Path) -> None:
    """A folder whose large files are links to the store's objects goes; the objects stay and hold what they should."""
    folder = Path(tensortime.restore("second", link=link, directory=project).path)
    objects = snapshot_of(project / "tensortime/.objects")
    cleared("second", project)
    assert not folder.exists() and snapshot_of(project / "tensortime/.objects") == objects


def test_links_out_of_the_folder_are_not_followed(project: Path, tmp_path: Path) -> None:
    """With --force too nothing behind a link is touched: neither a file nor a folder."""
    outside = Tree(tmp_path / "outside").file("data/important.bin", b"important").root
    folder = restored("second", project)
    (folder / "out").symlink_to(outside)
    (folder / "data/part.bin").unlink()
    (folder / "data/part.bin").symlink_to(outside / "data/important.bin")
    before = snapshot_of(outside)
    cleared("second", project, force=True)
    assert not folder.exists() and snapshot_of(outside) == before


def test_commits_of_a_person_are_kept(project: Path) -> None:
    """A commit that was made in the folder gets a ref under refs/pins/, which is named; a branch keeps its own."""
    folder = restored("second", project)
    (folder / "train.py").write_text("mine")
    user_git("commit", "-q", "-a", "-m", "mine", cwd=folder)
    mine = user_git("rev-parse", "HEAD", cwd=folder).strip()
    done = run_cli("rm", "--worktree", "second", cwd=project)
    ref = f"refs/pins/second-{mine[:8]}"
    assert f"commits that were made in it are kept as {ref}\n" in done.stdout
    assert pins(project) == {ref: mine}
    folder = restored("second", project)
    user_git("switch", "-q", "-c", "topic", cwd=folder)
    assert cleared("second", project).pin == ""


def test_a_folder_with_an_odd_name_keeps_its_commits_too(project: Path, tmp_path: Path) -> None:
    """The ref of a pin is a possible one, whatever the folder is called."""
    folder = restored("second", project, tmp_path / "my run: ü ~1^")
    (folder / "train.py").write_text("mine")
    user_git("commit", "-q", "-a", "-m", "mine", cwd=folder)
    report = cleared("second", project)
    assert list(pins(project)) == [report.pin] and not folder.exists()


def test_which_of_several_folders(project: Path, tmp_path: Path) -> None:
    """Of the backups of one experiment the folder with its name is meant, `NAME:1` means that backup's; otherwise the
    folder has to be named."""
    newest, older = restored("first", project), restored("first:1", project)
    assert cleared("first", project).folder.path == str(newest)
    assert cleared("first:1", project).folder.path == str(older)
    one, two = (restored("first", project, tmp_path / name) for name in ("one", "two"))
    with pytest.raises(AmbiguousName, match="restored in 2 folders"):
        cleared("first", project)
    assert cleared(str(two), project).folder.path == str(two)
    assert one.exists()


def test_a_removed_experiments_folder(project: Path) -> None:
    """The folder of an experiment in the trash is found by its full name."""
    folder = restored("second", project)
    tensortime.rm(["second"], directory=project)
    cleared("second", project)
    assert not folder.exists()


@pytest.mark.parametrize("text", ["second", "nothing", "src", "/", "", "tensortime"])
def test_what_is_no_restored_folder(text: str, project: Path) -> None:
    """Not restored, no experiment, an ordinary folder, the store: nothing is removed."""
    before = snapshot_of(project, exclude=["tensortime/.shadow/worktrees"])
    with pytest.raises(NotFound):
        cleared(text, project)
    assert snapshot_of(project, exclude=["tensortime/.shadow/worktrees"]) == before


def test_a_folder_that_a_copied_store_does_not_own(project: Path, tmp_path: Path) -> None:
    """A folder outside belongs to the store that made it: the copy of that store never removes it."""
    folder = restored("second", project, tmp_path / "outside")
    shutil.copytree(project, tmp_path / "copy", symlinks=True)
    with pytest.raises(NotFound):
        cleared("second", tmp_path / "copy", force=True)
    assert (folder / "train.py").exists()


def test_the_folder_one_stands_in(project: Path) -> None:
    """From inside it is refused, with what to do, also with --force."""
    folder = restored("second", project)
    done = run_cli("rm", "--worktree", "--force", "second", cwd=folder / "src")
    assert done.returncode == 1 and "you are in" in done.stderr and "cd out" in done.stderr
    assert (folder / "train.py").exists()


def test_what_stands_in_the_folder(project: Path, tmp_path: Path) -> None:
    """Another restored folder in it, or a disk that is mounted there, is never removed along, not even by force."""
    folder = restored("second", project)
    inner = restored("first", project, folder / "inner")
    with pytest.raises(Protected, match="another restored folder"):
        cleared(str(folder), project, force=True)
    cleared(str(inner), project)
    with small_tmpfs(folder / "mnt", 1 << 20) as disk:
        (disk / "mine").write_text("mine")
        with pytest.raises(Protected, match="another disk"):
            cleared("second", project, force=True)
        assert (disk / "mine").read_text() == "mine"


def test_a_folder_on_another_disk(project: Path, tmp_path: Path) -> None:
    """Where the folder cannot be renamed into the store's staging it goes all the same, and leaves nothing."""
    with small_tmpfs(tmp_path / "disk", 16 << 20) as disk:
        folder = restored("second", project, disk / "here")
        (folder / "src").chmod(0o555)
        cleared("second", project)
        assert os.listdir(disk) == []


def test_beside_a_restore_into_the_same_folder(project: Path) -> None:
    """While another process restores into the folder it is busy."""
    folder = restored("second", project)
    store = open_store(str(project / "tensortime"))
    code = (
        "import sys, time\nfrom blake3 import blake3\nfrom tensortime import fsops\n"
        "claim = sys.argv[1] + '/.tmp/restore-' + blake3(sys.argv[2].encode()).hexdigest()[:16]\n"
        "with fsops.locked(claim):\n    print(1, flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, store.folder, str(folder)], stdout=subprocess.PIPE)
    assert holder.stdout and holder.stdout.readline()
    with pytest.raises(StoreBusy):
        cleared("second", project)
    holder.kill()
    holder.communicate()
    assert folder.exists()


def test_a_folder_that_cannot_be_compared(project: Path) -> None:
    """Where the backup is damaged nobody knows what would be lost: only by force."""
    folder = restored("second", project)
    for pack in (project / "tensortime/.shadow/objects/pack").glob("*.idx"):
        pack.unlink()
    with pytest.raises(Protected, match="cannot be compared"):
        cleared(str(folder), project)
    assert (folder / "train.py").exists()


def test_the_options_that_go_with_it(project: Path) -> None:
    """One experiment, and no --keep rule: anything else is a wrong call."""
    for words in (["a", "b"], [], ["a", "--keep-last", "1"], ["a", "--dry-run"]):
        assert run_cli("rm", "--worktree", *words, cwd=project).returncode == 2


def without_rights(*words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """The command line as somebody whom modes hold back; root gives up the right to pass by them."""
    rights = "-dac_override,-dac_read_search,-fowner"
    prefix = ["setpriv", "--bounding-set", rights] if os.getuid() == 0 else []
    command = [*prefix, sys.executable, "-m", "tensortime", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_a_folder_that_nobody_may_look_into_is_no_unchanged_one(project: Path) -> None:
    """git takes its files for deleted: it is named, and stays."""
    folder = restored("second", project)
    (folder / "src").chmod(0)
    done = without_rights("rm", "--worktree", "second", cwd=project)
    (folder / "src").chmod(0o755)
    assert done.returncode == 1 and "holds what its backup does not: src" in done.stderr
    assert (folder / "src/net.py").exists()


def test_by_force_closed_folders_go_too(project: Path) -> None:
    """Folders without any right, and links in folders that are read-only."""
    folder = restored("second", project)
    (folder / "src/link").symlink_to("net.py")
    (folder / "data").chmod(0)
    (folder / "src").chmod(0o555)
    done = without_rights("rm", "--worktree", "second", "--force", cwd=project)
    assert done.returncode == 0, done.stderr
    assert not folder.exists() and os.listdir(project / "tensortime/.tmp") != ["worktree"]
    assert not [name for name in os.listdir(project / "tensortime/.tmp") if name[:1].isdecimal()]
