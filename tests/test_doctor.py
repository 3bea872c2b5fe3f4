"""doctor: what is not as backups need it, in words that a person can act on; nothing is changed by looking."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from builders import Tree, run_cli, snapshot_of
from mounts import mounted, require_root, small_tmpfs
from test_verify import object_of

import tensortime
from tensortime import api, fsops, health
from tensortime.answers import DoctorReport

LARGE = 2 << 20


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one backup, which leaves out a secret, a pipe and what is behind a link."""
    tree = Tree(tmp_path / "project").file("train.py", b"1").file("model.bin", size=LARGE).file(".env", b"x")
    tree.symlink("data", "../elsewhere").fifo("pipe")
    Tree(tmp_path / "elsewhere").file("big.bin", size=1000)
    api.backup(directory=tree.root, name="base")
    return tree.root


def states(report: DoctorReport) -> dict[str, str]:
    """How each check came out."""
    return {one.name: one.state for one in report.checks}


def said(report: DoctorReport, name: str) -> str:
    """What a check says."""
    return " ".join(str(one.said) for one in report.checks if one.name == name)


def test_a_healthy_store(project: Path) -> None:
    """What can be tried is tried, and nothing is left behind."""
    before = snapshot_of(project, exclude=["tensortime/.tmp", "tensortime/.cache"])
    report = tensortime.doctor(directory=project)
    found = states(report)
    for name in ("git", "system", "store", "hardlink", "locks", "fsync", "clock", "health", "covered"):
        assert found[name] == "ok", said(report, name)
    assert snapshot_of(project, exclude=["tensortime/.tmp", "tensortime/.cache"]) == before
    assert [path for path in (project / "tensortime/.tmp").iterdir() if path.suffix != ".lock"] == []


def test_what_is_not_covered_is_named(project: Path) -> None:
    """Skipped is something to do something about; ignored and links out are worth knowing."""
    report = tensortime.doctor(directory=project)
    assert "pipe (a FIFO)" in said(report, "skipped") and states(report)["skipped"] == "bad"
    assert ".env" in said(report, "ignored") and states(report)["ignored"] == "note"
    assert "data (../elsewhere)" in said(report, "outside")
    assert report.exit_code == 1


def test_damage_is_told(project: Path) -> None:
    """With the command that names it; exit code 5."""
    object_of(project, "model.bin").unlink()
    report = tensortime.doctor(directory=project)
    assert report.exit_code == 5 and "tensortime verify" in said(report, "health")


def test_a_clock_that_is_behind(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest backup is of the future, or the file system's clock is another one."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 86400)
    assert states(tensortime.doctor(directory=project))["clock"] == "note"
    monkeypatch.setattr(time, "time", lambda: now + 86400)
    assert "off" in said(tensortime.doctor(directory=project), "clock")


def test_a_store_on_another_disk(project: Path, tmp_path: Path) -> None:
    """Then large files are copied, whatever the file system can do."""
    with small_tmpfs(tmp_path / "disk", 24 << 20) as place:
        api.backup(directory=project, store=place / "store")
        report = tensortime.doctor(directory=project, store=place / "store")
        assert "another file system" in said(report, "disk")
        assert states(report)["room"] == "bad" and "tensortime du" in said(report, "room")


def test_locks_that_do_not_hold(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows from it is said."""
    monkeypatch.setattr(fsops, "file_system_name", lambda _: "nfs4")
    assert "a day later" in said(tensortime.doctor(directory=project), "locks")


def test_what_the_disk_cannot(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No fsync, a slow one, no hard links, reflinks."""

    def no(*_: object, **__: object) -> None:
        raise OSError(95, "not supported")

    for name, expected in (("fsync", "power loss"), ("link", "no hard links")):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, no)
            report = tensortime.doctor(directory=project)
            assert expected in said(report, "fsync" if name == "fsync" else "hardlink")
    with monkeypatch.context() as patch:
        patch.setattr(health, "sync_seconds", lambda _: 0.5)
        assert "500 ms" in said(tensortime.doctor(directory=project), "fsync")
    with monkeypatch.context() as patch:
        patch.setattr(health, "can_clone", lambda _: True)
        assert states(tensortime.doctor(directory=project))["reflink"] == "ok"


def test_an_old_git(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said with the version that is needed."""
    monkeypatch.setattr(health, "git_version", lambda: "2.30.1")
    report = tensortime.doctor(directory=project)
    assert states(report)["git"] == "bad" and "2.34" in said(report, "git")


def test_without_a_store(tmp_path: Path) -> None:
    """What can be said without one, and how to get one."""
    report = tensortime.doctor(directory=tmp_path)
    assert report.exit_code == 0 and "tensortime backup" in said(report, "store")
    assert os.listdir(tmp_path) == []


def test_a_store_that_cannot_be_written(project: Path) -> None:
    """D08: it is looked at all the same."""
    require_root()
    place = project.parent / "mount"
    place.mkdir()
    with mounted(place, "--bind", str(project)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
        report = tensortime.doctor(directory=place)
        assert "cannot write" in said(report, "store") and states(report)["health"] == "ok"


def test_the_command(project: Path) -> None:
    """One line a check; a document with --json; the same exit code."""
    (project / "pipe").unlink()
    api.backup(directory=project, name="whole")
    done = run_cli("doctor", cwd=project)
    assert done.returncode == 0, done.stdout
    assert "git       git 2." in done.stdout and "- ignored" in done.stdout
    document = json.loads(run_cli("doctor", "--json", cwd=project).stdout)
    assert document["ok"] is True
    assert {one["state"] for one in document["checks"]} <= {"ok", "note", "bad"}
