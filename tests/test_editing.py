"""What may change of a stored experiment: note and tags. DESIGN.md "The public face"; FORMAT.md "Commits"."""

import json
from pathlib import Path

import pytest
from builders import Tree, run_cli, snapshot_of, user_git

import tensortime
from tensortime import api, editing
from tensortime.errors import BadName, NoSpace, UnknownExperiment, UsageError
from tensortime.history import Target


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    """A project with two experiments; the older has two backups."""
    tree = Tree(tmp_path / "p").file("train.py", b"1").file("data.bin", size=2 << 20)
    api.backup(directory=tree.root, name="old", note="before")
    tree.file("weights", b"2")
    api.backup(directory=tree.root, name="old", add=[tree.root / "weights"])
    api.backup(directory=tree.root, name="new")
    return tree


def test_a_new_note_replaces_the_old_one_and_changes_nothing_else(project: Tree) -> None:
    """The experiment keeps its place, its time, its number of backups, and its bytes."""
    before = api.show("old", directory=project.root)
    said = api.note("old", "after\n\nwith: a colon", directory=project.root)
    after = api.show("old", directory=project.root)
    assert said.note == after.experiment.note == "after\n\nwith: a colon"
    assert [one.name for one in api.log(directory=project.root).experiments] == ["new", "old"]
    assert (after.experiment.time_ns, after.experiment.backups, after.run) == (
        before.experiment.time_ns,
        before.experiment.backups,
        before.run,
    )
    assert [entry.number for entry in after.history] == [2, 1]
    api.restore("old", project.root.parent / "back", directory=project.root)
    assert (project.root.parent / "back/weights").read_bytes() == b"2"
    api.restore("old:1", project.root.parent / "first", directory=project.root)
    assert not (project.root.parent / "first/weights").exists()


def test_a_note_is_a_commit_with_the_same_tree(project: Tree) -> None:
    """FORMAT.md: same tree, number and time; the time of the edit is a trailer of its own, and stays the last one."""
    shadow = project.root / "tensortime/.shadow"
    for text in ("one", "two"):
        api.note("old", text, directory=project.root)
    trees = user_git("log", "--format=%T", "refs/experiments/old", cwd=shadow).split()
    assert len(trees) == 4
    assert len(set(trees[:3])) == 1
    message = user_git("log", "-1", "--format=%B", "refs/experiments/old", cwd=shadow)
    assert message.startswith("two\n\nBackup: 2\n")
    assert message.count("Edited-Ns: ") == 1


def test_the_next_backup_carries_the_new_note_on(project: Tree) -> None:
    """What is added later belongs to the experiment as it is called now."""
    api.note("old", "after", directory=project.root)
    report = api.backup(directory=project.root, name="old", add=[project.root / "weights"])
    assert (report.number, report.note) == (3, "after")
    message = user_git(
        "log", "-1", "--format=%B", "refs/experiments/old", cwd=project.root / "tensortime/.shadow"
    )
    assert "Edited-Ns" not in message


def test_a_note_is_of_the_experiment_not_of_one_backup(project: Tree) -> None:
    """`note old:1` is refused; `old:2` is the newest and means the experiment."""
    with pytest.raises(UsageError):
        api.note("old:1", "x", directory=project.root)
    assert api.note("old:2", "x", directory=project.root).note == "x"


def test_tags_are_set_shown_and_taken_off(project: Tree) -> None:
    """Any number of words; setting one twice is no error; log and show have them."""
    assert api.tag("old", ["paper", "论文"], directory=project.root).tags == ("paper", "论文")
    assert api.tag("old", ["paper"], directory=project.root).tags == ("paper", "论文")
    assert run_cli("show", "old", cwd=project.root).stdout.count("paper, 论文") == 1
    assert json.loads(run_cli("log", "--json", cwd=project.root).stdout)["experiments"][1]["tags"] == [
        "paper",
        "论文",
    ]
    assert api.tag("old", ["paper"], remove=True, directory=project.root).tags == ("论文",)
    assert api.tag("new", ["paper"], directory=project.root).tags == ("paper",)
    assert api.tag("old", [], directory=project.root).tags == ("论文",)


@pytest.mark.parametrize("tag", ["two words", "a/b", "", "-x", "x.lock", "\x1b[31m", "a" * 300])
def test_what_can_be_no_tag_is_refused_and_none_is_set(project: Tree, tag: str) -> None:
    """A tag is a file's name in the store and typed without quotes."""
    with pytest.raises(BadName):
        api.tag("old", ["fine", tag], directory=project.root)
    assert api.log(directory=project.root).experiments[1].tags == ()


def test_a_tag_that_is_not_there_cannot_be_taken_off(project: Tree) -> None:
    """A typing error is no success: nothing goes."""
    api.tag("old", ["paper"], directory=project.root)
    with pytest.raises(UsageError, match="old has no tag papre") as caught:
        api.tag("old", ["paper", "papre"], remove=True, directory=project.root)
    assert str(caught.value.hint) == "its tags: paper"
    assert api.log(directory=project.root).experiments[1].tags == ("paper",)


def test_an_unknown_experiment(project: Tree) -> None:
    """Exit code 4, with the name that was probably meant."""
    with pytest.raises(UnknownExperiment):
        api.tag("odl", ["x"], directory=project.root)
    done = run_cli("note", "odl", "x", cwd=project.root)
    assert (done.returncode, done.stdout) == (4, "")
    assert "did you mean old?" in done.stderr


def test_a_store_that_cannot_be_written(project: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed edit is an error in words, and nothing is half done."""
    before = snapshot_of(project.root / "tensortime/.shadow")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensortime.fsops.sync_file", full)
    with pytest.raises(NoSpace, match="No space left"):
        api.note("old", "x", directory=project.root)
    assert snapshot_of(project.root / "tensortime/.shadow/refs") == {
        path.removeprefix(b"refs/"): entry for path, entry in before.items() if path.startswith(b"refs/")
    }


def test_the_command_line_says_how_it_is_now(project: Tree) -> None:
    """`note` and `tag` end with name, note and tags; --json is the experiment as in `log`."""
    done = run_cli("note", "old", "lr 3e-4", cwd=project.root)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["experiment", "old", "note", "lr", "3e-4", "tags", "-"]
    done = run_cli("tag", "old", "paper", "--json", cwd=project.root)
    document = json.loads(done.stdout)
    listed = json.loads(run_cli("log", "--json", cwd=project.root).stdout)["experiments"]
    assert document == listed[1]
    assert (document["note"], document["tags"]) == ("lr 3e-4", ["paper"])
    assert run_cli("tag", "old", "--remove", cwd=project.root).returncode == 2
    assert run_cli("tag", "old", "paper", "--remove", cwd=project.root).returncode == 0
    assert run_cli("tag", "old", cwd=project.root).stdout.split()[-2:] == ["tags", "-"]


def test_a_note_for_an_experiment_that_is_removed_meanwhile(
    project: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody runs rm in between: the note is nowhere, and that is no success."""
    resolved = editing.refuse_older

    def removing(target: Target) -> None:
        resolved(target)
        assert run_cli("rm", "old", cwd=project.root).returncode == 0

    monkeypatch.setattr(editing, "refuse_older", removing)
    with pytest.raises(UnknownExperiment, match="old was removed meanwhile"):
        api.note("old", "x", directory=project.root)


@pytest.mark.parametrize("verb", ["write_note", "add_tags"])
def test_an_experiment_that_is_removed_meanwhile(
    verb: str, project: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking it up and writing: nothing is said to be done that was not, and no tag is left without it."""
    whole = getattr(editing, verb)

    def late(*words: object) -> None:
        tensortime.rm(["old"], directory=project.root)
        whole(*words)

    monkeypatch.setattr(editing, verb, late)
    with pytest.raises(UnknownExperiment, match="removed meanwhile"):
        if verb == "write_note":
            api.note("old", "after", directory=project.root)
        else:
            api.tag("old", ["best"], directory=project.root)
    assert tensortime.undelete(["old"], directory=project.root).returned[0].experiment == "old"
    assert api.show("old", directory=project.root).experiment.tags == ()
