"""A store that the configuration, the environment or the caller puts elsewhere, seen from below the project."""

from pathlib import Path

import pytest
from builders import Tree, run_cli

from tensortime import TimeMachine, api
from tensortime.errors import OutsideProject, StoreUnusable


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a folder in it."""
    return Tree(tmp_path / "project").file("train.py", b"1").file("src/model.py", b"2").root


@pytest.mark.parametrize("where", ["saved", "elsewhere"])
def test_a_configured_store_is_found_from_below(project: Path, tmp_path: Path, where: str) -> None:
    """The folder whose configuration names a store is the project, also before there is one."""
    wanted = where if where == "saved" else str(tmp_path / where)
    (project / "tensortime.toml").write_text(f'backup_dir = "{wanted}"\n')
    report = api.backup(directory=project / "src", name="exp")
    assert (report.store, report.files) == (str(project / wanted), 3)
    assert [one.name for one in api.log(directory=project / "src").experiments] == ["exp"]


def test_a_relative_store_is_found_from_below(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--store and TENSORTIME_STORE: a relative one is looked for upward."""
    api.backup(directory=project, store="saved", name="exp")
    assert run_cli("log", "--store", "saved", cwd=project / "src").stdout.startswith("exp\t")
    monkeypatch.setenv("TENSORTIME_STORE", "saved")
    assert api.backup(directory=project / "src").files == 2


def test_a_store_elsewhere_knows_its_projects(project: Path, tmp_path: Path) -> None:
    """From below a project that an absolute store has seen, it is that project, and not a second one."""
    store = tmp_path / "scratch"
    api.backup(directory=project, store=store, name="exp")
    assert [one.name for one in api.log(directory=project / "src", store=store).experiments] == ["exp"]
    assert api.backup(directory=project / "src", store=store).files == 2


def test_weights_on_another_disk_do_not_stop_a_training(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path outside the project is found out when hours of training are over: one warning; strict raises."""
    monkeypatch.chdir(project)
    weights = Tree(tmp_path / "scratch").file("w.pt", b"w").root / "w.pt"
    assert TimeMachine(exp_suffix="").backup(add=[weights]).experiment is None
    assert "is not inside the project" in capsys.readouterr().err
    with pytest.raises(OutsideProject):
        TimeMachine(exp_suffix="", strict=True).backup(add=[weights])


def test_strict_in_the_configuration(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`strict = true`: a backup that fails ends the training, as with strict=True."""
    (project / "tensortime.toml").write_text("strict = true\n")
    monkeypatch.chdir(project)

    def full(*_: object, **__: object) -> None:
        raise StoreUnusable("the store is gone")

    monkeypatch.setattr(api, "backup", full)
    with pytest.raises(StoreUnusable):
        TimeMachine(exp_suffix="").backup()
