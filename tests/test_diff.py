"""diff A B: what differs between two backups, each difference in its category, causes apart from effects."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from builders import Tree, noise, run_cli, snapshot_of
from stores import forge

import tensortime
from tensortime import api, stored
from tensortime.conditions import is_option
from tensortime.differences import DiffReport, FileChange, ValueChange
from tensortime.errors import Damaged, UnknownExperiment
from tensortime.shadow import TreeItem, tree_item

LARGE = (1 << 20) + 5


@pytest.fixture
def lab(tmp_path: Path) -> Tree:
    """A project with code, a small and a large data file, and one backup called `a`."""
    tree = Tree(tmp_path / "lab").file("train.py", b"import x\nlr = 1\nprint(lr)\n")
    tree.file("src/model.py", b"a = 1\n").file("data/part.bin", size=LARGE).file("data/table.csv", b"1,2\n")
    save(tree, "a")
    return tree


def save(tree: Tree, name: str, **options: Any) -> None:
    """One more backup of a project."""
    api.backup(directory=tree.root, name=name, **options)


def diff(tree: Tree, a: str = "a", b: str | None = "b", *, patch: bool = False) -> DiffReport:
    """What differs."""
    return api.diff(a, b, directory=tree.root, patch=patch)


def told(changes: tuple[FileChange, ...]) -> dict[str, str]:
    """Path to what happened to it."""
    return {change.path: change.change for change in changes}


def values(changes: tuple[ValueChange, ...]) -> dict[str, tuple[object, object]]:
    """Key to old and new value."""
    return {change.key: (change.old, change.new) for change in changes}


def command(*words: str) -> dict[str, object]:
    """A run.json with a command."""
    return {"command": list(words), "python": {"version": "3.11.1"}, "host": "h"}


def forged(tree: Tree, name: str, run: dict[str, object], packages: bytes | None = None) -> None:
    """An experiment with this run.json and these packages."""
    meta = {b"run.json": json.dumps(run).encode()}
    forge(tree.root, name, [], meta=meta if packages is None else {**meta, b"packages.txt": packages})


# --- nothing, and the two sides


def test_two_backups_without_a_change_between_them_do_not_differ(lab: Tree) -> None:
    """The same project twice: nothing differs, whatever time, process or number of files there was."""
    save(lab, "b")
    report = diff(lab)
    assert report.is_empty
    assert report.left_out == ()


def test_the_report_says_which_two_states_these_are(lab: Tree) -> None:
    """Name, number, commit, note, time and project of both, as `show` tells them."""
    save(lab, "b", note="slower")
    save(lab, "b", add=["train.py"])
    report = diff(lab, "a", "b:1")
    known = api.show("b:1", directory=lab.root).experiment
    assert (report.b.experiment, report.b.number, report.b.commit) == ("b", 1, known.commit)
    assert (report.b.note, report.b.time_ns, report.b.project) == ("slower", known.time_ns, str(lab.root))
    assert report.a.experiment == "a"


def test_an_experiment_that_is_not_there(lab: Tree) -> None:
    """Either name: UnknownExperiment, exit code 4."""
    for names in (("nothing", "a"), ("a", "nothing")):
        with pytest.raises(UnknownExperiment):
            diff(lab, *names)
    assert run_cli("diff", "nothing", cwd=lab.root).returncode == 4
    assert run_cli("diff", "a", "a:7", cwd=lab.root).returncode == 4


def test_the_exit_code_is_0_whether_or_not_something_differs(lab: Tree) -> None:
    """It is a question, not a check."""
    lab.file("train.py", b"other\n")
    save(lab, "b")
    assert run_cli("diff", "a", "b", cwd=lab.root).returncode == 0
    assert run_cli("diff", "a", "a", cwd=lab.root).returncode == 0


def test_without_a_name_the_newest_is_compared_with_the_project(lab: Tree) -> None:
    """`tensortime diff` is `tensortime diff @`: what has changed since the last run."""
    lab.file("train.py", b"other\n")
    done = run_cli("diff", cwd=lab.root)
    assert done.returncode == 0
    assert done.stdout == run_cli("diff", "@", cwd=lab.root).stdout
    assert "train.py" in done.stdout


# --- code


def test_code_is_told_by_its_lines(lab: Tree) -> None:
    """Changed, added and removed files of text, with how many lines came and went."""
    lab.file("train.py", b"import x\nlr = 2\nprint(lr)\nprint(2)\n").file("new.py", b"1\n2")
    os.unlink(lab.root / "src/model.py")
    save(lab, "b")
    code = diff(lab).causes.code
    assert [(one.path, one.change, one.lines_added, one.lines_removed) for one in code] == [
        ("new.py", "added", 2, 0),
        ("src/model.py", "removed", 0, 1),
        ("train.py", "changed", 2, 1),
    ]
    assert code[0].old is None
    assert code[1].new is None
    assert code[2].hunks == ()


def test_with_patch_come_the_lines_themselves(lab: Tree) -> None:
    """Hunks as in a unified diff; a last line without its newline is marked as git does."""
    lab.file("train.py", b"import x\nlr = 2\nprint(lr)")
    save(lab, "b")
    (change,) = diff(lab, patch=True).causes.code
    (hunk,) = change.hunks
    assert hunk.lines == (
        *(" import x", "-lr = 1", "-print(lr)", "+lr = 2", "+print(lr)"),
        "\\ No newline at end of file",
    )
    assert (hunk.old_start, hunk.old_lines, hunk.new_start, hunk.new_lines) == (1, 3, 1, 3)


def test_another_name_for_the_same_bytes_is_a_rename(lab: Tree) -> None:
    """Moved files are one change each, small and large; empty files are not paired by chance."""
    lab.file("e1").file("e2")
    save(lab, "a2")
    for old, new in (("train.py", "main.py"), ("data/part.bin", "part.bin"), ("e1", "e9")):
        os.rename(lab.root / old, lab.root / new)
    save(lab, "b")
    causes = diff(lab, "a2").causes
    assert [(one.change, one.old_path, one.path) for one in causes.code] == [
        ("removed", None, "e1"),
        ("added", None, "e9"),
        ("renamed", "train.py", "main.py"),
    ]
    assert [(one.change, one.old_path, one.path) for one in causes.data] == [
        ("renamed", "data/part.bin", "part.bin")
    ]


def test_a_moved_folder_of_equal_files_keeps_their_names_together(lab: Tree) -> None:
    """Among files of the same bytes those of the same name are taken for one another."""
    for name in ("x", "y", "z"):
        lab.file(f"old/{name}.py", b"the same\n")
    save(lab, "a2")
    os.rename(lab.root / "old", lab.root / "new")
    save(lab, "b")
    pairs = [(one.old_path, one.path) for one in diff(lab, "a2").causes.code]
    assert pairs == [(f"old/{name}.py", f"new/{name}.py") for name in ("x", "y", "z")]


def test_other_permissions_are_told_as_such(lab: Tree) -> None:
    """Small and large files and folders: the bytes are the same, the mode is not."""
    for path in ("train.py", "data/part.bin"):
        os.chmod(lab.root / path, 0o755)
    os.chmod(lab.root / "src", 0o700)
    save(lab, "b")
    causes = diff(lab).causes
    assert told(causes.code) == {"src": "mode", "train.py": "mode"}
    assert told(causes.data) == {"data/part.bin": "mode"}
    old, new = causes.code[1].old, causes.code[1].new
    assert old and new and (old.mode, new.mode) == (0o644, 0o755)


def test_another_umask_is_no_difference(lab: Tree) -> None:
    """A project that was copied for a group (umask 002) is the same project."""
    for folder, _, names in os.walk(lab.root):
        if "tensortime" not in folder:
            os.chmod(folder, 0o775)
            for name in names:
                os.chmod(os.path.join(folder, name), 0o664)
    save(lab, "b")
    assert diff(lab).is_empty


def test_links_are_told_by_where_they_lead(lab: Tree) -> None:
    """A link that leads elsewhere, comes, goes, or takes the place of a file."""
    lab.symlink("last", "data/one").symlink("gone", "x").symlink(".gitattributes", "a")
    save(lab, "a2")
    for name in ("last", "gone", "train.py", ".gitattributes"):
        os.unlink(lab.root / name)
    lab.symlink("last", "data/two").symlink("came", "y").symlink("train.py", "src/model.py")
    lab.symlink(".gitattributes", "b")
    save(lab, "b")
    code = {one.path: one for one in diff(lab, "a2").causes.code}
    changes = {path: one.change for path, one in code.items()}
    kinds = {
        ".gitattributes": "changed",
        "came": "added",
        "gone": "removed",
        "last": "changed",
        "train.py": "kind",
    }
    assert changes == kinds
    last, odd, replaced = code["last"], code[".gitattributes"], code["train.py"]
    assert last.old and last.new and (last.old.target, last.new.target) == ("data/one", "data/two")
    assert odd.old and odd.new and (odd.old.target, odd.new.target) == ("a", "b")
    assert replaced.old and replaced.new and (replaced.old.kind, replaced.new.kind) == ("file", "symlink")


def test_empty_folders_come_and_go(lab: Tree) -> None:
    """An empty folder is a path like others; one that only got files is told by these."""
    lab.folder("logs").folder("save")
    save(lab, "a2")
    os.rmdir(lab.root / "logs")
    lab.folder("cache").file("save/x.py", b"1\n")
    save(lab, "b")
    assert told(diff(lab, "a2").causes.code) == {"cache": "added", "logs": "removed", "save/x.py": "added"}


def test_a_file_that_became_a_folder(lab: Tree) -> None:
    """The file went away, what is in the folder came."""
    os.unlink(lab.root / "train.py")
    lab.file("train.py/inner.py", b"1\n")
    save(lab, "b")
    assert told(diff(lab).causes.code) == {"train.py": "removed", "train.py/inner.py": "added"}


def test_a_text_too_long_to_compare_is_said_to_differ(lab: Tree) -> None:
    """No time is lost on two texts of many equal lines in another order: no counts, no hunks."""
    lab.file("long.txt", b"".join(b"%d\n" % (number % 7) for number in range(100_000)))
    save(lab, "a2")
    lab.file("long.txt", b"".join(b"%d\n" % (number % 5) for number in range(100_000)))
    save(lab, "b")
    (change,) = diff(lab, "a2", patch=True).causes.code
    assert (change.change, change.lines_added, change.lines_removed, change.hunks) == (
        "changed",
        None,
        None,
        (),
    )


# --- data


def test_data_is_told_by_digest_and_size(lab: Tree) -> None:
    """Large files, tables and whatever holds a NUL: the digests of both states, no lines."""
    lab.file("data/part.bin", size=LARGE + 1).file("data/table.csv", b"1,3\n").file("blob", b"\0\1")
    save(lab, "b")
    causes = diff(lab).causes
    assert told(causes.data) == {"blob": "added", "data/part.bin": "changed", "data/table.csv": "changed"}
    assert causes.code == ()
    part, table = causes.data[1], causes.data[2]
    assert part.old and part.new and part.old.digest and part.new.digest
    assert part.old.digest.startswith("blake3:")
    assert part.old.digest != part.new.digest
    assert (part.old.size, part.new.size) == (LARGE, LARGE + 1)
    assert table.new and (table.new.digest or "").startswith("git:")
    assert (table.lines_added, table.hunks) == (None, ())


def test_a_file_that_grew_large_is_one_change(lab: Tree) -> None:
    """From git into the sidecar: the same path, changed."""
    lab.file("log.txt", b"one line\n")
    save(lab, "a2")
    lab.file("log.txt", size=LARGE)
    save(lab, "b")
    assert told(diff(lab, "a2").causes.data) == {"log.txt": "changed"}


def test_another_large_size_changes_no_file(lab: Tree) -> None:
    """The same bytes once in git and once in the sidecar do not differ."""
    lab.file("data/middle.txt", noise(b"x", 5000))
    save(lab, "a2")
    lab.file("tensortime.toml", b"large_size = 4000\n")
    save(lab, "b")
    causes = diff(lab, "a2").causes
    assert told(causes.code) == {"tensortime.toml": "added"}
    assert causes.data == ()


# --- effects


def test_what_later_backups_add_or_change_are_outputs(lab: Tree) -> None:
    """The first backup holds the inputs; what the same experiment adds to it, or changes in it, came of them."""
    lab.file("save/w.bin", size=LARGE).file("save/log.txt", b"1\n")
    save(lab, "a", add=["save"])
    lab.file("train.py", b"other\n")
    save(lab, "b")
    lab.file("save/w.bin", size=LARGE + 1).file("save/log.txt", b"2\n").file("save/more.txt", b"1\n")
    save(lab, "b", add=["save"])
    report = diff(lab)
    assert told(report.causes.code) == {"train.py": "changed"}
    assert report.causes.data == ()
    outputs = {"save/log.txt": "changed", "save/more.txt": "added", "save/w.bin": "changed"}
    assert told(report.effects.outputs) == outputs
    assert told(diff(lab, "a:1", "a").effects.outputs) == {"save/log.txt": "added", "save/w.bin": "added"}


def test_what_the_hook_left_out_at_once_is_data(lab: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file that had no time before the command started is an input, whoever stores it then."""
    monkeypatch.setattr("tensortime.fsops.clone", lambda *_: False)
    ways: dict[str, dict[str, Any]] = {"whole": {}, "only": {"add": ["data"]}}
    for name, later in ways.items():
        lab.file("data/big.npy", size=LARGE + len(name))
        save(lab, name, large_until=time.monotonic() + 20)
        assert [row["path"] for row in skipped(lab, name)] == ["data/big.npy"]
        save(lab, name, joins=True, **later)
        assert skipped(lab, name) == []
        lab.file("w.pt", size=LARGE)
        save(lab, name, add=["w.pt"])
        report = diff(lab, "a", name)
        assert told(report.causes.data) == {"data/big.npy": "added"}
        assert told(report.effects.outputs) == {"w.pt": "added"}
        os.unlink(lab.root / "w.pt")


def skipped(tree: Tree, name: str) -> Any:
    """What run.json says was skipped."""
    return api.show(name, directory=tree.root).run["skipped"]


def test_a_second_whole_backup_after_an_edit_tells_of_inputs(lab: Tree) -> None:
    """A cell that is run again: the code that was changed in between is a cause; what was added stays an output."""
    lab.file("save/w.bin", size=LARGE)
    save(lab, "a", add=["save"])
    lab.file("train.py", b"lr = 2\n").file("data/part.bin", size=LARGE + 1)
    save(lab, "a", joins=True)
    for old in ("a:1", "a:2"):
        report = diff(lab, old, "a:3")
        assert told(report.causes.code) == {"train.py": "changed"}
        assert told(report.causes.data) == {"data/part.bin": "changed"}
    assert told(diff(lab, "a:1", "a:3").effects.outputs) == {"save/w.bin": "added"}
    lab.file("save/w.bin", size=LARGE + 2)
    save(lab, "a", add=["save"])
    report = diff(lab, "a:3", "a:4")
    assert (report.causes.code, report.causes.data) == ((), ())
    assert told(report.effects.outputs) == {"save/w.bin": "changed"}


def test_a_first_backup_has_no_outputs(lab: Tree) -> None:
    """`a:1` and `b:1` hold inputs alone, whatever was added later."""
    lab.file("out/w.txt", b"1\n")
    save(lab, "a", add=["out"])
    save(lab, "b")
    assert told(diff(lab, "a:1", "b:1").causes.code) == {"out/w.txt": "added"}
    assert told(diff(lab, "a:2", "b:1").effects.outputs) == {}


def test_a_new_file_beside_nothing_but_outputs_is_one_too(lab: Tree) -> None:
    """A folder that holds only outputs of one experiment holds only outputs."""
    lab.file("save/epoch1.txt", b"1\n").file("src/note.txt", b"x\n")
    save(lab, "a", add=["save", "src"])
    lab.file("save/deep/epoch2.txt", b"2\n").file("src/other.py", b"1\n")
    save(lab, "b")
    report = diff(lab)
    assert told(report.effects.outputs) == {"save/deep/epoch2.txt": "added"}
    assert told(report.causes.code) == {"src/other.py": "added"}, "src holds inputs, too"


def test_metrics_differ_by_so_much(lab: Tree) -> None:
    """Only the keys that differ; numbers with their difference, other values without."""
    save(lab, "a2", metrics={"acc": 0.75, "loss": 1.5, "best": "a", "same": 1})
    save(lab, "b", metrics={"acc": 1.0, "loss": float("nan"), "best": "b", "same": 1, "f1": 0.5})
    metrics = diff(lab, "a2").effects.metrics
    assert values(metrics) == {
        "acc": (0.75, 1.0),
        "best": ("a", "b"),
        "f1": (None, 0.5),
        "loss": (1.5, "nan"),
    }
    assert {one.key: one.delta for one in metrics} == {"acc": 0.25, "best": None, "f1": None, "loss": None}
    assert [one.change for one in metrics if one.key == "f1"] == ["added"]


# --- params, command, packages, environment, machine


def test_params_that_differ(lab: Tree) -> None:
    """Old and new value of those keys alone, in nested ones with dots; true is not 1."""
    save(lab, "a2", params={"lr": 0.1, "seed": 1, "opt": {"name": "adam", "eps": 1}, "gone": None, "amp": 1})
    save(lab, "b", params={"lr": 0.3, "seed": 1, "opt": {"name": "sgd", "eps": 1}, "amp": True})
    params = diff(lab, "a2").causes.params
    assert values(params) == {
        "amp": (1, True),
        "gone": (None, None),
        "lr": (0.1, 0.3),
        "opt.name": ("adam", "sgd"),
    }
    assert [one.change for one in params] == ["changed", "removed", "changed", "changed"]


@pytest.mark.parametrize(
    ("old", "new", "options"),
    [
        ("python train.py --lr 0.1", "python train.py --lr 0.3", {"--lr": ("0.1", "0.3")}),
        ("python train.py --lr=0.1", "python train.py --lr 0.3", {"--lr": ("0.1", "0.3")}),
        ("python train.py --amp", "python train.py", {"--amp": ("", None)}),
        ("python train.py x.yaml", "python train.py --shift -1.5 x.yaml", {"--shift": (None, "-1.5")}),
        ("python -u train.py -e 3", "python train.py -e 4", {"-e": ("3", "4")}),
        (
            "python -m run opt.lr=1",
            "python -m run opt.lr=2 +seed=1",
            {"opt.lr": ("1", "2"), "+seed": (None, "1")},
        ),
        ("torchrun --nproc 2 t.py", "torchrun --nproc 4 t.py", {"--nproc": ("2", "4")}),
        ("python t.py --tag a --tag b", "python t.py --tag a --tag c", {"--tag": ("a b", "a c")}),
        ("python train.py", "python other.py", {}),
    ],
)
def test_the_command_and_its_options(
    lab: Tree, old: str, new: str, options: dict[str, tuple[object, object]]
) -> None:
    """Both commands as they were, and which options differ, however these are written."""
    forged(lab, "x", command(*old.split()))
    forged(lab, "y", command(*new.split()))
    found = diff(lab, "x", "y").causes.command
    assert found
    assert (found.old, found.new) == (tuple(old.split()), tuple(new.split()))
    assert values(found.options) == options


def test_a_backup_by_hand_is_no_command_of_the_run(lab: Tree) -> None:
    """`tensortime backup --note …` tells nothing of how the training was started."""
    forged(lab, "x", command("/usr/bin/python3", "/home/lin/venv/bin/tensortime", "backup", "--note", "one"))
    forged(lab, "y", command("python", "-m", "tensortime", "backup"))
    forged(lab, "z", command("python", "train.py", "tensortime"))
    for names in (("x", "y"), ("x", "z")):
        report = diff(lab, *names)
        assert report.causes.command is None
        assert "command" in report.unknown
    assert "command" not in diff(lab, "z", "z").unknown


def test_packages_that_differ(lab: Tree) -> None:
    """Other versions, and those that came or went, from packages.txt."""
    forged(lab, "x", command("a"), b"# cpython 3.11.1\nnumpy==1.26\ntorch==2.1\nold==1\n")
    forged(lab, "y", command("a"), b"# cpython 3.11.1\nnumpy==2.0\ntorch==2.1\nnew @ git+https://h/x@c0\n")
    packages = diff(lab, "x", "y").causes.packages
    found = {"new": (None, "git+https://h/x@c0"), "numpy": ("1.26", "2.0"), "old": ("1", None)}
    assert values(packages) == found


def test_of_packages_that_were_not_recorded_nothing_is_said(lab: Tree) -> None:
    """A backup without packages.txt did not lose all packages: they are unknown."""
    forged(lab, "x", command("a"), b"torch==2.1\n")
    forged(lab, "y", command("a"))
    for names in (("x", "y"), ("y", "x")):
        report = diff(lab, *names)
        assert report.causes.packages == ()
        assert report.unknown == ("packages",)


def test_environment_and_machine(lab: Tree) -> None:
    """Python, variables, branch and head are environment, host and hardware are machine; ids of a job are neither."""
    run: dict[str, Any] = {
        "command": ["a"],
        "cwd": str(lab.root / "sub"),
        "python": {"version": "3.11.1", "executable": "/a/bin/python", "source": "PATH"},
        "environment": {"CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "4"},
        "launch": {"SLURM_JOB_ID": "17", "RANK": "0"},
        "git": {"top": "/x", "head": "a" * 40, "branch": "main", "dirty": True},
        "platform": "Linux 6.1 x86_64",
        "host": "one",
        "pid": 1,
        "machine": {"gpus": ["A100"], "cpu": "c", "memory": 64_000_000, "torch": {"cuda": "12"}},
    }
    other = {
        **run,
        "cwd": str(lab.root),
        "python": {"version": "3.12.0", "executable": "/b/bin/python", "source": "VIRTUAL_ENV"},
        "environment": {"OMP_NUM_THREADS": "4", "PYTHONHASHSEED": "0"},
        "launch": {"SLURM_JOB_ID": "18", "WORLD_SIZE": "8", "RANK": "0"},
        "git": {"top": "/x", "head": "b" * 40, "branch": "main", "dirty": False},
        "host": "two",
        "pid": 2,
        "machine": {"cpu": "c", "memory": 64_100_000, "cpus": 4},
    }
    forged(lab, "x", run)
    forged(lab, "y", other)
    causes = diff(lab, "x", "y").causes
    assert values(causes.environment) == {
        "CUDA_VISIBLE_DEVICES": ("0", None),
        "PYTHONHASHSEED": (None, "0"),
        "WORLD_SIZE": (None, "8"),
        "folder": ("sub", "."),
        "git.head": ("a" * 40, "b" * 40),
        "python.executable": ("/a/bin/python", "/b/bin/python"),
        "python.source": ("PATH", "VIRTUAL_ENV"),
        "python.version": ("3.11.1", "3.12.0"),
    }
    assert values(causes.machine) == {"cpus": (None, 4), "gpus": (["A100"], None), "host": ("one", "two")}


def test_how_the_same_python_was_found_is_no_difference(lab: Tree) -> None:
    """The training itself and the shell of the command line name one Python in two ways."""
    ways = {"x": ("3.11.1", "/a/bin/python3", "this process"), "y": ("3.11", "/a/bin/python", "VIRTUAL_ENV")}
    for name, (version, executable, source) in ways.items():
        python = {"version": version, "executable": executable, "source": source}
        forged(lab, name, {**command("a"), "python": python})
    assert diff(lab, "x", "y").is_empty


def test_what_one_version_did_not_record_is_no_difference(lab: Tree) -> None:
    """A field that only one run.json has, or git that did not answer in time, is unknown, not removed."""
    forged(lab, "x", {**command("a"), "git": {"error": "not in time"}})
    full = {"git": {"head": "a" * 40, "branch": "main"}, "environment": {"A": "1"}, "machine": {"cpu": "c"}}
    forged(lab, "y", {**command("a"), **full})
    assert diff(lab, "x", "y").is_empty


@pytest.mark.parametrize(
    "run", [b"", b"[]", b"{", b'{"python": 1, "git": [], "command": {"a": 1}, "ignored": 3}']
)
def test_a_strange_run_json_breaks_nothing(lab: Tree, run: bytes) -> None:
    """Whatever stands there: what cannot be read is unknown."""
    forge(lab.root, "x", [], meta={b"run.json": run})
    report = diff(lab, "x", "a")
    assert "command" in report.unknown
    assert told(report.causes.code) == {"src/model.py": "added", "train.py": "added"}


def test_one_moment_in_two_time_zones_is_one_moment(lab: Tree) -> None:
    """What lies behind a link did not change because another machine tells its time in another zone."""
    row = {"path": "raw", "target": "/sets", "files": 1, "bytes": 2, "complete": True}
    for name, newest in (("x", "2026-01-01T01:00:00+01:00"), ("y", "2026-01-01T00:00:00+00:00")):
        forged(lab, name, {**command("a"), "outside": [{**row, "newest": newest}]})
    assert diff(lab, "x", "y").is_empty
    forged(lab, "z", {**command("a"), "outside": [{**row, "newest": "2026-01-01T00:00:01+00:00"}]})
    assert told(diff(lab, "x", "z").causes.data) == {"raw": "changed"}


# --- what one side left out


def test_what_one_backup_left_out_is_no_change(lab: Tree) -> None:
    """`ignore=["data"]` in one of two runs: said, but neither added nor removed."""
    save(lab, "b", ignore=["data"])
    report = diff(lab)
    assert report.is_empty
    assert [(one.path, one.by, one.files) for one in report.left_out] == [("data", "b", 2)]
    mirrored = diff(lab, "b", "a")
    assert mirrored.is_empty
    assert [(one.path, one.by, one.files) for one in mirrored.left_out] == [("data", "a", 2)]


# --- damage, and what diff may not touch


def test_damage_is_named(lab: Tree) -> None:
    """A blob that is gone: exit code 5 and the experiment's name."""
    lab.file("train.py", b"other\n")
    save(lab, "b")
    for pack in (lab.root / "tensortime/.shadow/objects/pack").glob("*.pack"):
        data = bytearray(pack.read_bytes())
        os.chmod(pack, 0o600)
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
        pack.write_bytes(data)
    with pytest.raises(Damaged, match=r"\b[ab] is damaged"):
        diff(lab)
    assert run_cli("diff", "a", "b", cwd=lab.root).returncode == 5


def test_nothing_in_the_store_changes(lab: Tree) -> None:
    """Two backups are compared by reading alone: every file, mode and time in the store stays."""
    lab.file("train.py", b"other\n")
    save(lab, "b")
    store = lab.root / "tensortime"
    before = snapshot_of(store), times(store)
    diff(lab, patch=True)
    assert (snapshot_of(store), times(store)) == before


def times(folder: Path) -> dict[str, int]:
    """When everything below a folder was last written."""
    return {str(path): path.lstat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def test_what_is_the_same_in_both_costs_next_to_nothing(lab: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of thousands of equal files no line of git's lists is taken apart, also where the manifest names some of them."""
    for number in range(300):
        lab.file(f"many/f{number}.txt", b"%d" % number)
    lab.file("many/odd.sh", b"1", mode=0o700)
    save(lab, "x")
    os.chmod(lab.root / "many/odd.sh", 0o711)
    lab.file("train.py", b"other\n")
    save(lab, "y")
    parsed: list[bytes] = []

    def noted(line: bytes) -> TreeItem:
        parsed.append(line)
        return tree_item(line)

    monkeypatch.setattr(stored, "tree_item", noted)
    assert told(diff(lab, "x", "y").causes.code) == {"many/odd.sh": "mode", "train.py": "changed"}
    assert [line for line in parsed if b"many/f" in line] == []


def test_the_verb_has_the_same_name_in_python(lab: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tensortime.diff("a", "b")` in the project."""
    save(lab, "b", params={"lr": 1})
    monkeypatch.chdir(lab.root)
    assert values(tensortime.diff("a", "b").causes.params) == {"lr": (None, 1)}


def test_a_long_argument_costs_no_time() -> None:
    """A word that begins like a negative number is looked at once, however long it is."""
    started = time.monotonic()
    assert is_option("-" + "1" * 100_000 + "x")
    assert not [word for word in ("-1", "-.5", "-0.5", "-1e-3", "-12.5E+3") if is_option(word)]
    assert is_option("-1.") and is_option("-x")
    assert time.monotonic() - started < 2
