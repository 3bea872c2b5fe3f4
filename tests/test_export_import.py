"""One experiment in one file: whole elsewhere, readable without TensorTime. CASES S10, S11 are in test_hostile_bundle."""

import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from builders import Tree, assert_same_tree, clean_environment, run_cli, user_git
from round_trips import THRESHOLD

from tensortime import api, portable
from tensortime.errors import BadBundle, Damaged, TargetExists, UsageError

KINDS = ("zip", "tar")


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """Two backups of an experiment with every kind of file; the first has a large file that the second has not."""
    tree = (
        Tree(tmp_path / "project")
        .file("train.py", b"print(1)\n", mode=0o755)
        .file("data.bin", size=THRESHOLD)
    )
    tree.file("bad\udcff name.txt", b"odd").file("ein é.txt", b"utf-8").folder("empty").symlink(
        "last", "data.bin"
    )
    api.backup(directory=tree.root, name="base", note="what it was")
    tree.file("data.bin", b"x" * (THRESHOLD + 1)).file("out/w.bin", size=THRESHOLD + 5)
    api.backup(directory=tree.root, name="base", add=["data.bin", "out"])
    api.tag("base", ["paper"], directory=tree.root)
    return tree


def other(tmp_path: Path) -> Path:
    """Another project, with nothing in it."""
    return Tree(tmp_path / "other").root


@pytest.mark.parametrize("kind", KINDS)
def test_an_experiment_comes_back_elsewhere_with_all_its_backups(
    project: Tree, tmp_path: Path, kind: str
) -> None:
    """Every byte, note, tag and earlier backup; the commits keep their ids."""
    file = tmp_path / f"base.{kind}"
    sent = portable.export_experiment("base", file, directory=project.root)
    shutil.copytree(project.root, tmp_path / "as it was", symlinks=True)
    shutil.rmtree(project.root / "tensortime")
    got = portable.import_file(file, directory=other(tmp_path))
    assert (got.experiment, got.backups, got.files, got.bytes) == ("base", 2, sent.files, sent.bytes)
    (one,) = api.log(directory=tmp_path / "other").experiments
    assert (one.note, one.tags, one.backups) == ("what it was", ("paper",), 2)
    restored = api.restore("base", tmp_path / "restored", directory=tmp_path / "other")
    assert restored.exit_code == 0
    assert_same_tree(project.root, restored.path)
    api.restore("base:1", tmp_path / "first", directory=tmp_path / "other")
    assert (tmp_path / "first" / "data.bin").stat().st_size == THRESHOLD
    assert sent.commit in user_git(
        "--git-dir", tmp_path / "other" / "tensortime" / ".shadow", "rev-list", "--all", cwd=tmp_path
    )
    assert run_cli("verify", "--read-data", cwd=tmp_path / "other").returncode == 0


def test_a_zip_is_read_without_tensortime(project: Tree, tmp_path: Path) -> None:
    """project/ holds the files; a README says in both languages what this is; only an odd name is left to import."""
    file = tmp_path / "base.zip"
    report = portable.export_experiment("base", file, directory=project.root)
    assert report.unlisted == ("bad\udcff name.txt",)
    with zipfile.ZipFile(file) as packed:
        names = set(packed.namelist())
        assert packed.read("project/out/w.bin") == (project.root / "out" / "w.bin").read_bytes()
        assert packed.getinfo("project/train.py").external_attr >> 16 & 0o777 == 0o755
        readme = packed.read("README.txt").decode()
        assert json.loads(packed.read("export.json"))["experiment"] == "base"
    assert {"project/ein é.txt", "project/empty/", "project/.tensortime/manifest"} <= names
    assert "tensortime import base.zip" in readme
    assert "bad\\xff name.txt" in readme


def test_a_tar_is_unpacked_by_tar(project: Tree, tmp_path: Path) -> None:
    """All of it, names that are not UTF-8 and links included."""
    file = tmp_path / "base.tar"
    portable.export_experiment("base", file, directory=project.root)
    subprocess.run(["tar", "-xf", file], cwd=tmp_path, check=True)
    shutil.rmtree(tmp_path / "project" / "tensortime", ignore_errors=True)
    assert (tmp_path / "project" / "last").is_symlink()
    assert os.path.exists(os.fsencode(tmp_path / "project") + b"/bad\xff name.txt")


def test_git_reads_the_history(project: Tree, tmp_path: Path) -> None:
    """history.pack is a git pack like any other."""
    portable.export_experiment("base", tmp_path / "base.zip", directory=project.root)
    with zipfile.ZipFile(tmp_path / "base.zip") as packed:
        (tmp_path / "history.pack").write_bytes(packed.read("history.pack"))
        commit = json.loads(packed.read("export.json"))["commit"]
    user_git("init", "--quiet", tmp_path / "git", cwd=tmp_path)
    with open(tmp_path / "history.pack", "rb") as pack:
        subprocess.run(
            ["git", "unpack-objects", "-q"],
            cwd=tmp_path / "git",
            env=clean_environment(),
            stdin=pack,
            check=True,
        )
    assert user_git("show", f"{commit}:train.py", cwd=tmp_path / "git") == "print(1)\n"


def test_one_backup_can_be_exported(project: Tree, tmp_path: Path) -> None:
    """NAME:1 is what there was before the outputs came, and nothing of them."""
    portable.export_experiment("base:1", tmp_path / "one.zip", directory=project.root)
    got = portable.import_file(tmp_path / "one.zip", directory=other(tmp_path))
    assert got.backups == 1
    assert not os.path.exists(api.restore("base", tmp_path / "r", directory=tmp_path / "other").path + "/out")


def test_the_same_export_gives_the_same_bytes(project: Tree, tmp_path: Path) -> None:
    """Nothing in it depends on when it was written."""
    for kind in KINDS:
        for number in "12":
            (tmp_path / number).mkdir(exist_ok=True)
            portable.export_experiment("base", tmp_path / number / f"base.{kind}", directory=project.root)
        assert (tmp_path / "1" / f"base.{kind}").read_bytes() == (
            tmp_path / "2" / f"base.{kind}"
        ).read_bytes()


def test_a_taken_name_gets_a_number(project: Tree, tmp_path: Path) -> None:
    """And `--name` gives it another one."""
    file = tmp_path / "base.zip"
    portable.export_experiment("base", file, directory=project.root)
    there = Tree(other(tmp_path)).file("a.py", b"1").root
    api.backup(directory=there, name="base")
    done = run_cli("import", str(file), cwd=there)
    assert done.returncode == 0
    assert "the name base is taken: this is base-2" in done.stdout
    assert run_cli("import", str(file), cwd=there).returncode == 1, "it is here already"
    fresh = Tree(tmp_path / "fresh").root
    document = json.loads(run_cli("import", str(file), "--name", "theirs", "--json", cwd=fresh).stdout)
    assert (document["experiment"], document["backups"]) == ("theirs", 2)


def test_nothing_is_written_over_anything(project: Tree, tmp_path: Path) -> None:
    """An existing file stays, and a wrong ending is a usage error; no half file is left."""
    file = tmp_path / "base.zip"
    file.write_bytes(b"mine")
    with pytest.raises(TargetExists):
        portable.export_experiment("base", file, directory=project.root)
    assert file.read_bytes() == b"mine"
    with pytest.raises(UsageError):
        portable.export_experiment("base", tmp_path / "base.rar", directory=project.root)
    assert sorted(os.listdir(tmp_path)) == ["base.zip", "project"]


def test_damage_is_not_handed_on(project: Tree, tmp_path: Path) -> None:
    """Every byte is checked on the way out; what is damaged makes no file."""
    objects = [path for path in (project.root / "tensortime" / ".objects").rglob("*") if path.is_file()]
    for path in objects:
        os.chmod(path, 0o600)
        data = bytearray(path.read_bytes())
        data[7] ^= 1
        path.write_bytes(data)
    with pytest.raises(Damaged, match="base"):
        portable.export_experiment("base", tmp_path / "base.zip", directory=project.root)
    assert sorted(os.listdir(tmp_path)) == ["project"]


def test_a_file_in_the_project_is_pointed_out(project: Tree) -> None:
    """The next backup would store the export, too."""
    done = run_cli("export", "base", "base.zip", cwd=project.root)
    assert done.returncode == 0
    assert "a line /base.zip in .ttignore" in done.stderr


def test_a_tar_that_ends_with_a_zip(tmp_path: Path) -> None:
    """An npz is a zip, and what finds a zip by its end takes the whole tar for one."""
    tree = Tree(tmp_path / "project").file("train.py", b"1")
    with zipfile.ZipFile(tree.root / "weights.npz", "w") as packed:
        packed.writestr("arr_0.npy", b"w" * THRESHOLD)
    api.backup(directory=tree.root, name="base")
    portable.export_experiment("base", tmp_path / "base.tar", directory=tree.root)
    assert portable.import_file(tmp_path / "base.tar", directory=other(tmp_path)).files == 2


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"nothing", b"\0" * 10240])
def test_what_is_no_export_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    """In one line, with exit code 1, and no experiment."""
    (tmp_path / "x.zip").write_bytes(content)
    done = run_cli("import", str(tmp_path / "x.zip"), cwd=other(tmp_path))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert os.listdir(tmp_path / "other") == [], "no store is made for nothing"
    with pytest.raises(BadBundle):
        portable.import_file(tmp_path / "gone.zip", directory=tmp_path / "other")


def test_members_are_those_that_the_format_names(project: Tree, tmp_path: Path) -> None:
    """README.txt, export.json, history.pack, project/ and objects/, in both containers."""
    tops = []
    for kind in KINDS:
        portable.export_experiment("base", tmp_path / f"b.{kind}", directory=project.root)
    with zipfile.ZipFile(tmp_path / "b.zip") as packed:
        tops.append({name.split("/")[0] for name in packed.namelist()})
    with tarfile.open(tmp_path / "b.tar") as tarred:
        tops.append({name.split("/")[0] for name in tarred.getnames()})
    assert tops == [{"README.txt", "export.json", "history.pack", "project", "objects"}] * 2
