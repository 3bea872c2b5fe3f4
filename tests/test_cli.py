"""backup, log, show, restore through real processes: what they print, the documents of --json, names, exit codes."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from builders import Tree, assert_same_tree, noise, run_cli, snapshot_of

from tensortime import api

LARGE = (1 << 20) + 5
CHINESE = "学习率 1e-3 ä"
TIMED = {"experiment": str, "commit": str, "note": str, "time": str, "files": int, "bytes": int}
BACKUP = {
    **TIMED,
    **dict.fromkeys(("number", "stored_bytes", "small", "large"), int),
    **dict.fromkeys(("ignored", "skipped", "changed", "outside", "lost"), list),
    "seconds": float,
}
EXPERIMENT = {
    **TIMED,
    "backups": int,
    "parent": str | None,
    "status": str,
    "tags": list,
    "params": dict,
    "metrics": dict,
}
ENTRY = {"number": int, "commit": str, "time": str, "files": int, "bytes": int}
RESTORE = {
    "experiment": str,
    "commit": str,
    "path": str,
    "files": int,
    "bytes": int,
    "placed": dict,
    "skipped": list,
    "changed": list,
    "seconds": float,
}
TEXTS = {"kind": str, "message": str, "hint": str}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the project that most tests start from is kept."""
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture
def lab(shelf: Path, tmp_path: Path) -> Tree:
    """A project with the experiments baseline, lr3e-4 (two backups) and 学习率, in this order."""
    made = shelf / "lab"
    if not made.exists():
        tree = Tree(made).file("train.py", b"print(1)\n").file("data/part.bin", size=LARGE)
        tree.file("src/model.py", b"a = 1\n").file("__pycache__/x.pyc", b"").file(
            "odd\xff".encode("latin-1"), b"odd"
        )
        api.backup(
            directory=made, name="baseline", note="the first", params={"lr": 0.1}, metrics={"loss": 1.5}
        )
        tree.file("train.py", b"print(22)\n")
        api.backup(directory=made, name="lr3e-4", note="slower")
        tree.file("weights.bin", size=LARGE + 1)
        api.backup(directory=made, name="lr3e-4", add=["weights.bin"])
        api.backup(directory=made, name="学习率", note=CHINESE)
    copy = tmp_path / "lab"
    shutil.copytree(made, copy, symlinks=True)
    return Tree(copy)


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document on stdout."""
    parsed = json.loads(done.stdout)
    assert isinstance(parsed, dict)
    assert done.stdout.isascii(), "a document is ASCII, so that every locale can carry it"
    return parsed


def assert_fields(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Exactly these fields, each of its type."""
    assert set(found) == set(wanted)
    wrong = {key: found[key] for key, kind in wanted.items() if not isinstance(found[key], kind)}
    assert not wrong


def name_shown(lab: Tree, text: str) -> str:
    """The experiment that `show` finds for a text."""
    return api.show(text, directory=lab.root).experiment.name


# --- backup


def test_backup_says_what_is_stored_what_is_not_and_how_to_come_back(tmp_path: Path) -> None:
    """The summary is on stdout, the project and store on stderr before the copying, exit code 0."""
    tree = Tree(tmp_path / "p").file("train.py", b"1").file("data.bin", size=LARGE).file(".env", b"TOKEN=1")
    done = run_cli("backup", "--note", "lr 3e-4", cwd=tree.root)
    assert done.returncode == 0
    assert done.stderr == f"tensortime: project {tree.root}, store tensortime\n"
    first, left_out, restore = done.stdout.splitlines()
    name = restore.removeprefix("restore: tensortime restore ")
    assert name.endswith("-lr-3e-4")
    assert first.startswith(f"backed up {name}: 2 files, 1.0 MB (1.1 MB new) in ")
    assert left_out == "left out: .env (a secret?)"


def test_backup_json(tmp_path: Path) -> None:
    """The document of backup has every field that DESIGN.md lists, and says what was left out, skipped and why."""
    tree = Tree(tmp_path / "p").file("train.py", b"12345").file("data.bin", size=LARGE).fifo("pipe")
    tree.file("notes.txt", b"").folder("__pycache__")
    done = run_cli("backup", "--json", "--name", "x", "--note", CHINESE, "--ignore", "*.txt", cwd=tree.root)
    found = document(done)
    assert_fields(found, BACKUP)
    assert done.returncode == 3
    assert (found["experiment"], found["number"], found["note"]) == ("x", 1, CHINESE)
    assert (found["files"], found["small"], found["large"], found["bytes"]) == (2, 1, 1, LARGE + 5)
    assert len(found["commit"]) == 40
    assert datetime.fromisoformat(found["time"]).tzinfo is not None
    assert found["ignored"] == [
        {"path": "__pycache__", "rule": "built-in: __pycache__"},
        {"path": "notes.txt", "rule": "ignore: *.txt"},
    ]
    assert [row["path"] for row in found["skipped"]] == ["pipe"]
    assert found["changed"] == found["lost"] == []


def test_add_goes_on_top_of_the_newest_or_the_named_experiment(lab: Tree) -> None:
    """--add without --name adds to the newest experiment, with --name to that one; from the current folder too."""
    lab.file("src/extra.txt", b"extra")
    newest = document(run_cli("backup", "--json", "--add", "extra.txt", cwd=lab.root / "src"))
    assert (newest["experiment"], newest["number"]) == ("学习率", 2)
    named = document(
        run_cli("backup", "--json", "--add", "src/extra.txt", "--name", "baseline", cwd=lab.root)
    )
    assert (named["experiment"], named["number"]) == ("baseline", 2)
    assert run_cli("show", "baseline", "src/extra.txt", cwd=lab.root).stdout == "extra"
    assert run_cli("show", "baseline:2", "train.py", cwd=lab.root).stdout == "print(1)\n"


def test_a_taken_name_gets_a_number(lab: Tree) -> None:
    """A second experiment of a name, in other letter case too, becomes NAME-2: nothing is ever overwritten."""
    assert (
        document(run_cli("backup", "--json", "--name", "Baseline", cwd=lab.root))["experiment"]
        == "Baseline-2"
    )
    assert (
        document(run_cli("backup", "--json", "--name", "baseline", cwd=lab.root))["experiment"]
        == "baseline-3"
    )


# --- log


def test_log_json(lab: Tree) -> None:
    """Newest first, every field of every experiment, -n cuts."""
    done = run_cli("log", "--json", cwd=lab.root)
    found = document(done)
    assert done.returncode == 0
    assert set(found) == {"experiments", "damaged"}
    for one in found["experiments"]:
        assert_fields(one, EXPERIMENT)
    assert [one["experiment"] for one in found["experiments"]] == ["学习率", "lr3e-4", "baseline"]
    last = found["experiments"][-1]
    assert (last["backups"], last["files"], last["status"], last["parent"]) == (1, 4, "done", None)
    assert (last["params"], last["metrics"]) == ({"lr": 0.1}, {"loss": 1.5})
    assert len(document(run_cli("log", "--json", "-n", "1", cwd=lab.root))["experiments"]) == 1


def test_numbers_that_json_cannot_carry_are_texts(tmp_path: Path) -> None:
    """A loss that became nan does not make the document unreadable for everybody but Python."""
    tree = Tree(tmp_path / "p").file("train.py")
    metrics = {"loss": float("nan"), "steps": [float("inf"), 1]}
    api.backup(directory=tree.root, name="x", metrics=metrics)

    def refuse(constant: str) -> None:
        raise AssertionError(f"not JSON: {constant}")

    for verb in (("log",), ("show", "x")):
        text = run_cli(*verb, "--json", cwd=tree.root).stdout
        assert '"nan"' in text
        assert '"inf"' in text
        json.loads(text, parse_constant=refuse)


def test_log_in_a_pipe_is_one_line_of_tabs_each(lab: Tree) -> None:
    """Through a pipe: all experiments, a line each, six fields, the note verbatim but for its control characters."""
    api.backup(directory=lab.root, name="two-lines", note="first\nsecond\tthird")
    lines = run_cli("log", cwd=lab.root).stdout.splitlines()
    assert [len(line.split("\t")) for line in lines] == [6] * 4
    assert lines[0].endswith("\tfirst\\nsecond\\tthird")
    assert lines[1].endswith("\t" + CHINESE)
    assert lines[2].split("\t")[0::2] == ["lr3e-4", "2", str(2 * LARGE + 1 + 10 + 6 + 3)]


def test_a_damaged_reference_is_named_and_the_others_are_listed(lab: Tree) -> None:
    """log lists what it can, names the broken one on stderr and in "damaged", and ends with 5."""
    (lab.root / "tensortime/.shadow/refs/experiments/baseline").write_text("0" * 39 + "1\n")
    done = run_cli("log", "--json", cwd=lab.root)
    assert done.returncode == 5
    assert [one["experiment"] for one in document(done)["experiments"]] == ["学习率", "lr3e-4"]
    assert [set(one) for one in document(done)["damaged"]] == [{"ref", "reason"}]
    assert "refs/experiments/baseline" in done.stderr
    assert run_cli("show", "baseline", cwd=lab.root).returncode == 5


def test_log_all_shows_the_other_projects_of_a_store(tmp_path: Path) -> None:
    """A store elsewhere is shared: log shows this project's experiments, --all those of all."""
    one, two = Tree(tmp_path / "one").file("a"), Tree(tmp_path / "two").file("b")
    shared = tmp_path / "shared"
    api.backup(directory=one.root, store=shared, name="first")
    api.backup(directory=two.root, store=shared, name="second")
    assert run_cli("log", "--store", shared, cwd=two.root).stdout.split("\t")[0] == "second"
    names = run_cli("log", "--all", cwd=two.root, env={"TENSORTIME_STORE": str(shared)}).stdout.splitlines()
    assert [line.split("\t")[0] for line in names] == ["second", "first"]


# --- show


def test_show_json(lab: Tree) -> None:
    """The fields of log, the history of all backups, and run.json."""
    found = document(run_cli("show", "lr3e-4", "--json", cwd=lab.root))
    assert_fields(found, EXPERIMENT | {"number": int, "history": list, "run": dict, "left": str | None})
    for entry in found["history"]:
        assert_fields(entry, ENTRY)
    assert [(entry["number"], entry["files"]) for entry in found["history"]] == [(2, 5), (1, 4)]
    assert {"command", "cwd", "python", "platform", "ignored", "skipped", "changed"} <= set(found["run"])


def test_show_of_an_older_backup_is_about_that_backup(lab: Tree) -> None:
    """NAME:1 shows the first backup's facts, still knows how many there are, and says how to restore that one."""
    found = document(run_cli("show", "lr3e-4:1", "--json", cwd=lab.root))
    assert (found["number"], found["backups"], found["files"]) == (1, 2, 4)
    assert found["commit"] == found["history"][-1]["commit"]
    text = run_cli("show", "lr3e-4:1", cwd=lab.root).stdout
    assert text.splitlines()[-1].split() == ["restore", "tensortime", "restore", "lr3e-4:1"]


def test_show_of_an_incomplete_experiment_exits_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a backup lacks is said whenever it is shown, for scripts too; its files come out as ever."""
    tree = Tree(tmp_path / "p").file("train.py", b"1").file("data.bin", size=2 << 20)
    with monkeypatch.context() as patch:
        patch.setattr("tensortime.fsops.clone", lambda *_: False)
        api.backup(directory=tree.root, name="x", large_until=time.monotonic() + 20)
    done = run_cli("show", "x", cwd=tree.root)
    assert done.returncode == 3
    assert any(line.startswith("skipped ") and "data.bin" in line for line in done.stdout.splitlines())
    assert run_cli("show", "x", "--json", cwd=tree.root).returncode == 3
    assert run_cli("show", "x", "train.py", cwd=tree.root).returncode == 0
    api.backup(directory=tree.root, name="x", add=["data.bin"])
    assert run_cli("show", "x", cwd=tree.root).returncode == 0
    assert run_cli("show", "x:1", cwd=tree.root).returncode == 3


def test_show_for_a_person(lab: Tree) -> None:
    """A row a fact: note, params, metrics, history, what was left out, how to restore."""
    done = run_cli("show", "baseline", cwd=lab.root)
    rows = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    facts = {row[0]: row[1] for row in rows}
    assert facts["note"] == "the first"
    assert facts["params"] == '{"lr": 0.1}'
    assert facts["files"] == "4 (1.0 MB)"
    assert facts["ignored"] == "__pycache__  (built-in: __pycache__)"
    assert facts["restore"] == "tensortime restore baseline"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("train.py", b"print(1)\n"),
        ("data/part.bin", noise(b"data/part.bin", LARGE)),
        ("odd\udcff", b"odd"),
        ("./src/../src/model.py", b"a = 1\n"),
    ],
)
def test_show_of_a_path_is_its_bytes(lab: Tree, path: str, content: bytes) -> None:
    """Small and large files, odd names, a path typed in a roundabout way: exactly the bytes on stdout."""
    command = [sys.executable, "-m", "tensortime", "show", "baseline", path]
    done = subprocess.run(command, cwd=lab.root, capture_output=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", content)


# --- names


@pytest.mark.parametrize(
    ("text", "experiment"),
    [
        ("baseline", "baseline"),
        ("base", "baseline"),
        ("line", "baseline"),
        ("3e-4", "lr3e-4"),
        ("BASE", "baseline"),
        ("习", "学习率"),
        ("@", "学习率"),
        ("@~0", "学习率"),
        ("@~2", "baseline"),
        ("lr:1", "lr3e-4"),
        ("@~1:2", "lr3e-4"),
    ],
)
def test_an_experiment_is_named_shortly(lab: Tree, text: str, experiment: str) -> None:
    """A name, a unique prefix, a unique part, @ and @~n, each with :number."""
    assert name_shown(lab, text) == experiment


def test_a_whole_name_wins_over_longer_ones(lab: Tree) -> None:
    """`base` is `base` although `baseline` begins with it, too."""
    api.backup(directory=lab.root, name="base")
    assert name_shown(lab, "base") == "base"


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("e", "ambiguous-name", ["e could be 2 experiments: lr3e-4, baseline", "type more of the name"]),
        ("basline", "unknown-experiment", ["no experiment is called basline", "did you mean baseline?"]),
        ("lr-3e-4", "unknown-experiment", ["did you mean lr3e-4?"]),
        ("nothing-like-it", "unknown-experiment", ["tensortime log lists all"]),
        ("@~3", "unknown-experiment", ["there are 3 experiments"]),
        ("@yesterday(x)", "unknown-experiment", ["no experiment is called @yesterday(x)"]),
        ("lr3e-4:3", "unknown-experiment", ["has no backup 3, only 1 and 2"]),
        ("baseline:2", "unknown-experiment", ["has no backup 2, only 1"]),
        ("baseline:0", "unknown-experiment", ["has no backup 0, only 1"]),
        ("", "unknown-experiment", ["the name is empty"]),
    ],
)
def test_a_name_that_finds_none_or_many(lab: Tree, text: str, kind: str, words: list[str]) -> None:
    """Exit code 4, one line that says what is wrong and one that helps; the near names are suggested."""
    done = run_cli("show", text, "--json", cwd=lab.root)
    assert done.returncode == 4
    error = document(done)["error"]
    assert_fields(error, TEXTS)
    assert error["kind"] == kind
    for word in words:
        assert word in error["message"] + "\n" + error["hint"]


# --- restore


def test_restore_json_and_the_default_place(lab: Tree) -> None:
    """A restore is whole, lies in the store under the experiment's name, and tells how large files were placed."""
    done = run_cli("restore", "baseline", "--json", cwd=lab.root)
    found = document(done)
    assert_fields(found, RESTORE)
    assert (done.returncode, found["path"]) == (0, str(lab.root / "tensortime/baseline"))
    assert (found["files"], found["bytes"]) == (4, LARGE + 9 + 6 + 3)
    assert list(found["placed"]) == ["reflink", "copy", "hardlink", "symlink"]
    assert sum(found["placed"].values()) == 1
    wanted = snapshot_of(lab.root, exclude=["tensortime", "__pycache__", "weights.bin"])
    wanted[b"train.py"] = snapshot_of(Tree(lab.root.parent / "old").file("train.py", b"print(1)\n").root)[
        b"train.py"
    ]
    assert_same_tree(wanted, found["path"])


def test_restore_tells_where_to_go(lab: Tree) -> None:
    """The last line can be pasted; an older backup and a chosen place have names of their own."""
    done = run_cli("restore", "lr3e-4:1", cwd=lab.root)
    assert done.stdout.splitlines()[-1] == "cd tensortime/lr3e-4-1"
    assert done.stdout.startswith("restored lr3e-4: 4 files, 1.0 MB in ")
    assert "\nevery byte checked; large files: 1 by copy\n" in done.stdout
    done = run_cli("restore", "@", "a new/place", cwd=lab.root)
    assert done.stdout.splitlines()[-1] == "cd 'a new/place'"
    assert (lab.root / "a new/place/train.py").read_bytes() == b"print(22)\n"


@pytest.mark.parametrize("how", ["auto", "copy", "hardlink", "symlink", "reflink"])
def test_every_way_to_place_large_files(lab: Tree, how: str) -> None:
    """--link auto, copy, hardlink, symlink place the same bytes; reflink does, or says that it cannot and what can."""
    done = run_cli("restore", "baseline", "out", "--link", how, "--json", cwd=lab.root)
    found = document(done)
    if how == "reflink" and done.returncode:
        assert (done.returncode, found["error"]["kind"]) == (1, "store-unusable")
        assert "--link" in found["error"]["hint"]
        assert not list(lab.root.glob("out*"))
        return
    assert (lab.root / "out/data/part.bin").read_bytes() == noise(b"data/part.bin", LARGE)
    ways = [way for way, count in found["placed"].items() if count]
    assert ways in ([["reflink"], ["copy"]] if how == "auto" else [[how]])
    assert (lab.root / "out/data/part.bin").is_symlink() == (how == "symlink")


def test_restore_of_paths_gives_plain_files(lab: Tree) -> None:
    """--path puts these files and folders alone, without git, into EXP.files or DEST."""
    done = run_cli("restore", "baseline", "--path", "data", "--path", "train.py", "--json", cwd=lab.root)
    place = lab.root / "tensortime/baseline.files"
    assert document(done)["path"] == str(place)
    assert document(done)["files"] == 2
    assert set(snapshot_of(place)) == {b"data", b"data/part.bin", b"train.py"}
    run_cli("restore", "baseline", "here", "--path", "src/model.py", cwd=lab.root / "data")
    assert (lab.root / "data/here/src/model.py").read_bytes() == b"a = 1\n"


def test_c_and_store_stand_for_being_there(lab: Tree, tmp_path: Path) -> None:
    """-C DIR, before or behind the verb, does what the verb does in DIR: paths are taken from there."""
    elsewhere = Tree(tmp_path / "elsewhere").root
    assert len(run_cli("log", "-C", lab.root, cwd=elsewhere).stdout.splitlines()) == 3
    assert run_cli("-C", lab.root / "src", "show", "@~2", "train.py", cwd=elsewhere).stdout == "print(1)\n"
    run_cli("-C", "../lab", "restore", "baseline", "out", cwd=elsewhere)
    assert (lab.root / "out/train.py").is_file()
    lab.file("late.txt", b"late")
    run_cli("-C", "../lab", "backup", "--add", "late.txt", cwd=elsewhere)
    assert (
        run_cli("show", "@", "late.txt", "--store", lab.root / "tensortime", cwd=elsewhere).stdout == "late"
    )
    assert os.listdir(elsewhere) == []


def test_the_way_back_can_be_copied_into_a_shell(tmp_path: Path) -> None:
    """A name that a person chose may hold what a shell obeys: the command that restores it is quoted."""
    tree = Tree(tmp_path / "p").file("train.py", b"1")
    for words in (("backup", "--name", "it's(1);id"), ("show", "@")):
        last = run_cli(*words, cwd=tree.root).stdout.splitlines()[-1]
        assert shlex.split(last)[-3:] == ["tensortime", "restore", "it's(1);id"]


def test_a_taken_name_is_said(lab: Tree) -> None:
    """`backup --name run1` a second time is run1-2, with one line about it on stderr."""
    assert "is taken" not in run_cli("backup", "--name", "run1", cwd=lab.root).stderr
    done = run_cli("backup", "--name", "run1", cwd=lab.root)
    assert done.returncode == 0
    assert done.stderr.count("the name run1 is taken: this is run1-2\n") == 1
    again = run_cli("backup", "--name", "run1", "--add", "train.py", cwd=lab.root)
    assert "is taken" not in again.stderr
