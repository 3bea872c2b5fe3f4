"""`tensortime rerun`: a recorded run again, in a new folder, and whether it gave the same result."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from builders import Tree, run_cli, user_git

import tensortime
from tensortime import api, runner

PACKAGE = Path(__file__).parent.parent
EXAMPLE = PACKAGE / "examples/digits"

WRITES = b"""\
import json, os, sys
os.makedirs("out", exist_ok=True)
json.dump({"loss": float(os.environ.get("LOSS", "0.5")), "steps": [1, 2]}, open("out/m.json", "w"))
open("out/argv", "w").write(" ".join(sys.argv[1:]))
if os.environ.get("MORE"):
    open("more.txt", "w").write("1")
print("trained")
sys.exit(int(os.environ.get("ENDS", "0")))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a small training, and one run of it called `base`."""
    tree = Tree(tmp_path_factory.mktemp("made") / "lab").file("train.py", WRITES)
    done = run_cli("run", "--name", "base", "--", sys.executable, "train.py", "--lr", "1", cwd=tree.root)
    assert done.returncode == 0, done.stderr
    return tree.root


@pytest.fixture
def lab(trained: Path, tmp_path: Path) -> Tree:
    """The same, moved to another place since."""
    shutil.copytree(trained, tmp_path / "lab", symlinks=True)
    return Tree(tmp_path / "lab")


def rerun(tree: Tree, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `base` again."""
    return run_cli("rerun", *(options or ("base", "--verify")), cwd=tree.root, env=variables)


def left_behind(tree: Tree) -> tuple[list[str], list[str]]:
    """The experiments beside `base`, and the worktrees."""
    own = [str(one.name) for one in api.log(directory=tree.root).experiments if one.name != "base"]
    folders = [
        path.name for path in (tree.root / "tensortime").iterdir() if path.name[0] != "." and path.is_dir()
    ]
    records = tree.root / "tensortime/.shadow/worktrees"
    return own, folders + (os.listdir(records) if records.exists() else [])


# --- reproduced


def test_a_run_that_repeats_is_reproduced_bit_for_bit(lab: Tree) -> None:
    """One line, exit code 0; recorded as an experiment whose parent are the inputs, in a worktree that stays."""
    (lab.root / "train.py").write_bytes(b"raise SystemExit('edited since')\n")
    done = rerun(lab)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "trained",
        "reproduced bit for bit (2 outputs)",
        "recorded as base-rerun (from base:1), in tensortime/base-rerun.run",
    ]
    again = api.show("base-rerun", directory=lab.root)
    assert again.experiment.parent == "base:1"
    assert (lab.root / "tensortime/base-rerun.run/out/argv").read_text() == "--lr 1"
    assert user_git("status", "--porcelain", cwd=lab.root / "tensortime/base-rerun.run") == ""
    assert run_cli("rm", "--worktree", "base-rerun", cwd=lab.root).returncode == 0, "all of it is stored"


def test_the_digits_example_repeats_bit_for_bit(tmp_path: Path) -> None:
    """A real training that stores its weights itself, with two calls in train.py."""
    root = tmp_path / "digits"
    shutil.copytree(EXAMPLE, root)
    (root / ".ttignore").write_text("save/\n")
    for command in (["make_data.py"], ["train.py", "--epochs", "1", "--hidden", "16"]):
        subprocess.run([sys.executable, *command], cwd=root, check=True, capture_output=True)
    name = api.log(directory=root).experiments[0].name
    done = run_cli("rerun", "@", "--verify", cwd=root)
    assert done.returncode == 0, done.stderr
    assert "reproduced bit for bit (2 outputs)" in done.stdout
    newest = api.log(directory=root).experiments[0]
    assert (newest.name, newest.parent, newest.params["hidden"]) == (f"{name}-rerun", f"{name}:1", 16)


def test_a_difference_is_named_and_the_bar_decides(lab: Tree) -> None:
    """File, key and distance, exit code 5; within --rtol it is reproduced, exit code 0."""
    done = rerun(lab, LOSS="0.501")
    assert done.returncode == 5
    assert done.stdout.splitlines()[1:4] == [
        "not reproduced: out/m.json[loss] differs by 1e-3",
        "  out/m.json  differs: loss differs by 1e-3 (relative 2e-3)",
        "  1 more is identical",
    ]
    done = rerun(lab, "base", "--verify", "--rtol", "1e-2", LOSS="0.501")
    assert done.returncode == 0
    assert "reproduced within 1e-2 (2 outputs)" in done.stdout


def test_what_only_this_run_made_is_a_difference(lab: Tree) -> None:
    """A run that was recorded by `run` listed all that it made."""
    done = rerun(lab, MORE="1")
    assert (done.returncode, done.stdout.splitlines()[1]) == (
        5,
        "not reproduced: more.txt is there now, and was not",
    )


def test_an_unseeded_shuffle_is_not_reproduced(tmp_path: Path) -> None:
    """What differs is said, and with --ignore it is not looked at."""
    code = b"import random, json; x = [*range(50)]; random.shuffle(x); json.dump({'order': x}, open('order.json', 'w'))\n"
    tree = Tree(tmp_path / "p").file("train.py", code + b"open('other.txt', 'w').write('same')\n")
    run_cli("run", "--name", "base", "--", sys.executable, "train.py", cwd=tree.root)
    done = rerun(tree)
    assert done.returncode == 5
    assert done.stdout.startswith("not reproduced: order.json[order] differs by ")
    done = rerun(tree, "base", "--verify", "--ignore", "order.json")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "reproduced bit for bit (1 output)")


def test_a_run_that_fails_this_time_is_not_reproduced(lab: Tree) -> None:
    """Exit code 5, not the command's, whatever its outputs are; without --verify the exit code is the command's."""
    done = rerun(lab, ENDS="3")
    assert (done.returncode, done.stdout.splitlines()[1]) == (5, "not reproduced: it ended with 3")
    assert rerun(lab, "base", ENDS="3").returncode == 3
    assert api.log(directory=lab.root).experiments[0].status == "failed"


def test_inputs_that_were_not_stored_are_named_when_it_fails(tmp_path: Path) -> None:
    """What a rule left out is not in the new folder: most often that is why."""
    tree = (
        Tree(tmp_path / "p")
        .file("t.sh", b"cat data/x > out\n")
        .file("data/x", b"1")
        .file(".ttignore", b"data\n")
    )
    run_cli("run", "--name", "base", "--", "sh", "t.sh", cwd=tree.root)
    done = rerun(tree)
    assert done.returncode == 5
    assert done.stdout.splitlines()[0] == "not reproduced: it ended with 1"
    assert "its inputs were stored without: data" in done.stdout


def test_inputs_that_were_stored_later_are_there(tmp_path: Path) -> None:
    """A large file that a pending backup lacked, and that was added when its process was gone, is an input."""
    code = b"""\
import os, sys
from tensortime import TimeMachine, backlog
backlog.Backlog.start = lambda *_: None  # as if it were killed before it could
if sys.argv[1:]:
    print(os.path.getsize("data/x.bin"))
else:
    TimeMachine(exp_dir="base").backup(wait=False)
    os._exit(0)
"""
    size = (1 << 20) + 7
    tree = Tree(tmp_path / "lab").file("data/x.bin", size=size).file("train.py", code)
    subprocess.run([sys.executable, "train.py"], cwd=tree.root, check=True, capture_output=True)
    assert api.log(directory=tree.root).experiments[0].status == "pending"
    assert run_cli("backup", "--name", "base", "--add", "data/x.bin", cwd=tree.root).returncode == 0
    done = rerun(tree, "base", "--", "look")
    assert done.stdout.splitlines()[0] == str(size), done.stderr


def test_a_source_that_the_command_writes_is_not_compared(tmp_path: Path) -> None:
    """A person may have written it, so the first run kept it as it was: no difference, and no output that is the same."""
    code = b"open('config.yaml', 'w').write('best: 3'); open('out.txt', 'w').write('x')"
    tree = Tree(tmp_path / "lab").file("train.py", code).file("config.yaml", b"lr: 0.1")
    assert run_cli("run", "--name", "base", "--", sys.executable, "train.py", cwd=tree.root).returncode == 0
    done = rerun(tree)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "reproduced bit for bit (1 output)")
    assert "not compared: 1 files more, of which base:2 recorded nothing" in done.stdout


def test_what_a_rule_leaves_out_is_named_below_the_verdict(tmp_path: Path) -> None:
    """Neither run's backups hold it: whoever reads that all was reproduced shall know of what that is not said."""
    code = (
        b"import os; os.mkdir('out'); open('out/w', 'wb').write(os.urandom(9)); open('log', 'w').write('x')"
    )
    tree = Tree(tmp_path / "lab").file("train.py", code).file(".ttignore", b"out/\n")
    assert run_cli("run", "--name", "base", "--", sys.executable, "train.py", cwd=tree.root).returncode == 0
    assert rerun(tree).stdout.splitlines()[:2] == [
        "reproduced bit for bit (1 output)",
        "not compared, as your rules leave it out: out/",
    ]


def test_outputs_that_a_rule_leaves_out_are_looked_at(tmp_path: Path) -> None:
    """What a person had added by hand from an ignored folder."""
    tree = Tree(tmp_path / "p").file("train.py", WRITES).file(".ttignore", b"out/\n")
    run_cli("run", "--name", "base", "--", sys.executable, "train.py", cwd=tree.root)
    run_cli("backup", "--name", "base", "--add", "out", cwd=tree.root)
    done = rerun(tree)
    assert "reproduced bit for bit (2 outputs)" in done.stdout, done.stderr


def test_the_document_says_it_all(lab: Tree) -> None:
    """One JSON document on stdout: what the command prints goes to stderr."""
    done = rerun(lab, "base", "--verify", "--json", "--", "--lr", "2")
    found = json.loads(done.stdout)
    assert "trained" in done.stderr
    assert (found["verdict"], found["parent"], found["exit_code"]) == ("different", "base:1", 0)
    assert found["line"] == "not reproduced: out/argv differs"
    assert [(one["path"], one["result"]) for one in found["outputs"]] == [
        ("out/argv", "differs"),
        ("out/m.json", "identical"),
    ]
    assert [(one["category"], one["key"], one["old"], one["new"]) for one in found["causes"]] == [
        ("command", "--lr", "1", "2")
    ]


def test_what_differs_between_then_and_now_stands_below(lab: Tree) -> None:
    """Variables that change a result are those of then; what cannot be the same is a cause."""
    run_cli(
        "run",
        "--name",
        "deeper",
        "--",
        sys.executable,
        "train.py",
        cwd=lab.root,
        env={"OMP_NUM_THREADS": "2"},
    )
    done = rerun(lab, "deeper", "--verify", OMP_NUM_THREADS="4")
    assert "reproduced bit for bit" in done.stdout
    assert "OMP_NUM_THREADS" not in done.stdout
    done = rerun(lab, "deeper", "--verify", OMP_NUM_THREADS="4", CUDA_VISIBLE_DEVICES="1")
    assert "CUDA_VISIBLE_DEVICES  (none) -> 1" in done.stdout


def test_a_run_that_wrote_what_was_there_already_can_be_verified(tmp_path: Path) -> None:
    """The second run in one folder makes the same outputs: they came with the inputs, and are written again."""
    tree = Tree(tmp_path / "p").file("train.py", WRITES)
    for name in ("first", "base"):
        run_cli("run", "--name", name, "--", sys.executable, "train.py", cwd=tree.root)
    done = rerun(tree)
    assert (done.returncode, done.stdout.splitlines()[1]) == (0, "reproduced bit for bit (2 outputs)")
    assert rerun(tree, "base", "--verify", LOSS="0.501").returncode == 5


@pytest.mark.parametrize("before", ["0.5", "0.5001"])
def test_what_came_with_the_inputs_proves_nothing(tmp_path: Path, before: str) -> None:
    """An output that lies there as it was restored was not written this time, however close its numbers are."""
    code = b"import os\nif not os.environ.get('SKIPS'):\n    open('loss.csv', 'w').write('0.5')\nopen('o', 'w')\n"
    tree = Tree(tmp_path / "p").file("train.py", code).file("loss.csv", before.encode())
    run_cli("run", "--name", "base", "--", sys.executable, "train.py", cwd=tree.root)
    done = rerun(tree, "base", "--verify", "--rtol", "0.1", SKIPS="1")
    assert (done.returncode, done.stdout.splitlines()[0]) == (5, "not reproduced: loss.csv was not written")
    assert rerun(tree, "base", "--verify").returncode == 0


def test_two_runs_that_failed_alike_are_said_to_have_failed(tmp_path: Path) -> None:
    """Who reads the line must not take it for a training that ended well."""
    tree = Tree(tmp_path / "p").file("train.py", WRITES)
    run_cli("run", "--name", "base", "--", sys.executable, "train.py", cwd=tree.root, env={"ENDS": "1"})
    done = rerun(tree, ENDS="1")
    line = "reproduced bit for bit (2 outputs); both ended with exit code 1"
    assert (done.returncode, done.stdout.splitlines()[1]) == (0, line)


def test_what_was_edited_during_the_first_run_is_named_as_a_cause(tmp_path: Path) -> None:
    """It imported the module as it was by then; the inputs have it as it was when the run began."""
    code = b"import os\nif os.environ.get('EDITS'):\n    open('lib.py', 'w').write('V = 22')\n"
    tree = Tree(tmp_path / "p").file(
        "train.py", code + b"import lib\nopen('out.txt', 'w').write(str(lib.V))\n"
    )
    tree.file("lib.py", b"V = 1")
    run_cli("run", "--name", "base", "--", sys.executable, "train.py", cwd=tree.root, env={"EDITS": "1"})
    done = rerun(tree)
    assert done.stdout.splitlines()[0] == "not reproduced: out.txt differs"
    assert "changed while the recorded run ran, which may have read them only then: lib.py" in done.stdout
    assert "edited      lib.py" in run_cli("show", "base", cwd=tree.root).stdout


# --- where and how


def test_it_runs_in_the_folder_that_is_named(lab: Tree, tmp_path: Path) -> None:
    """A new one; never over existing files."""
    done = rerun(lab, "base", "--verify", "--into", "../elsewhere")
    assert "in ../elsewhere" in done.stdout
    assert (tmp_path / "elsewhere/out/m.json").exists()
    done = rerun(lab, "base", "--into", "../elsewhere")
    assert (done.returncode, "exists" in done.stderr) == (1, True)
    assert "tensortime rerun base:2 --into OTHER-FOLDER" in done.stderr


def test_a_run_in_a_subfolder_runs_there_again(tmp_path: Path) -> None:
    """With the words as they were typed there."""
    tree = Tree(tmp_path / "p").file("sub/train.py", WRITES).file("x")
    api.backup(directory=tree.root, name="first")
    run_cli("run", "--name", "base", "--", sys.executable, "train.py", cwd=tree.root / "sub")
    done = rerun(tree)
    assert done.returncode == 0, done.stderr
    assert (tree.root / "tensortime/base-rerun.run/sub/out/m.json").exists()


def test_a_rerun_can_be_run_again(lab: Tree) -> None:
    """It is an experiment like any other; the names count."""
    rerun(lab)
    done = rerun(lab, "base-rerun", "--verify")
    assert "reproduced bit for bit" in done.stdout, done.stderr
    assert "recorded as base-rerun-2 (from base-rerun:1)" in done.stdout


# --- the environment


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment with nothing in it; whoever wants to install something finds no index."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    for name in ("PIP_NO_INDEX", "UV_OFFLINE", "UV_NO_CONFIG"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    links = Tree(tmp_path / "links").symlink("uv", f"{os.path.dirname(sys.executable)}/uv").root
    monkeypatch.setenv("PATH", f"{links}:/usr/bin:/bin")
    return tmp_path / "venv"


def installed(venv: Path, name: str, url: str | None = None) -> Path:
    """Let a virtual environment seem to have a package, with `url` in place; returns where its packages are."""
    packages = next((venv / "lib").glob("python*/site-packages"))
    Tree(packages / f"{name}-1.0.dist-info").file(
        "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode()
    )
    if url is not None:
        direct = {"url": url, "dir_info": {"editable": True}}
        (packages / f"{name}-1.0.dist-info/direct_url.json").write_text(json.dumps(direct))
    return packages


def test_it_can_run_in_an_environment_that_is_built_again(tmp_path: Path, venv: Path) -> None:
    """Of the recorded packages; the one of then need not be there any more."""
    tree = Tree(tmp_path / "p").file("train.py", WRITES)
    run_cli("run", "--name", "base", "--", venv / "bin/python", "train.py", cwd=tree.root)
    shutil.rmtree(venv)
    done = rerun(tree, "base", "--verify", "--env")
    assert "reproduced bit for bit (2 outputs)" in done.stdout, done.stderr
    assert "VIRTUAL_ENV" not in done.stdout and "python.executable" not in done.stdout, "that is our doing"
    python = api.show("base-rerun", directory=tree.root).run["python"]
    assert f"{tmp_path}/cache/tensortime/environments/" in str(python)


def test_packages_that_cannot_be_installed_leave_nothing_behind(tmp_path: Path, venv: Path) -> None:
    """One line that names the first; exit code 1."""
    tree = Tree(tmp_path / "p").file("train.py", WRITES)
    installed(venv, "nobody-has-this")
    run_cli("run", "--name", "base", "--", venv / "bin/python", "train.py", cwd=tree.root)
    done = rerun(tree, "base", "--env")
    assert (done.returncode, "nobody-has-this" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr
    assert left_behind(tree) == ([], [])


def test_what_is_installed_from_the_project_is_that_of_then(tmp_path: Path, venv: Path) -> None:
    """`pip install -e .` leads into the project as it is now: the worktree comes first."""
    code = b"import mine; open('out.txt', 'w').write(mine.VALUE)\n"
    tree = Tree(tmp_path / "p").file("train.py", code).file("src/mine.py", b"VALUE = 'then'\n").file("bin/x")
    packages = installed(venv, "mine", (tree.root).as_uri())
    (packages / "mine.pth").write_text(f"{tree.root}/src\n")
    run_cli("run", "--name", "base", "--", venv / "bin/python", "train.py", cwd=tree.root)
    tree.file("src/mine.py", b"VALUE = 'now'\n")
    done = rerun(tree)
    assert done.stdout.splitlines()[0] == "reproduced bit for bit (1 output)", done.stderr
    assert "PYTHONPATH" not in done.stdout


def test_an_isolated_run_imports_what_is_installed_from_the_project_as_it_was(
    tmp_path: Path, venv: Path
) -> None:
    """`pip install -e .` leads into the project, where somebody edits on."""
    edits = f"open({str(tmp_path / 'p/src/mine.py')!r}, 'w').write('VALUE = 1')\n"
    code = f"{edits}import mine, os\nopen('out.txt', 'w').write(mine.VALUE + os.environ['PYTHONPATH'])\n"
    tree = (
        Tree(tmp_path / "p").file("scripts/train.py", code.encode()).file("src/mine.py", b"VALUE = 'then'\n")
    )
    packages = installed(venv, "mine", (tree.root).as_uri())
    (packages / "mine.pth").write_text(f"{tree.root}/src\n")
    words = ("run", "--isolated", "--name", "base", "--", venv / "bin/python", "scripts/train.py")
    done = run_cli(*words, cwd=tree.root, env={"PYTHONPATH": str(PACKAGE)})
    assert done.returncode == 0, done.stderr
    data, _ = api.read_file("base", "out.txt", directory=tree.root)
    own = tree.root / "tensortime/base.run"
    assert data == f"then{own}/src:{own}:{PACKAGE}".encode()


def test_a_second_interrupt_does_not_take_what_the_command_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it was started its folder may hold what is nowhere else."""
    tree = Tree(tmp_path / "p").file("train.py", WRITES)
    run_cli("run", "--name", "base", "--", sys.executable, "train.py", cwd=tree.root)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tensortime.rerun("base", directory=tree.root)
    assert [*tree.root.glob("tensortime/base-rerun*/out/m.json")]


def test_a_submitted_job_is_compared_when_it_has_ended(tmp_path: Path) -> None:
    """The command returns at once: nothing is compared yet (exit code 3), and what compares it later is said."""
    tree = Tree(tmp_path / "p").file("bin/sbatch", b"#!/bin/sh\n", mode=0o755).file("job.sh", b"")
    base = ("backup", "--name", "base", "--add", "out")
    run_cli("run", "--name", "base", "--", tree.root / "bin/sbatch", "job.sh", cwd=tree.root)
    tree.file("out", b"1")
    assert run_cli(*base, cwd=tree.root).returncode == 0
    done = rerun(tree)
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        3,
        "submitted: the job goes on with base-rerun; when it has ended, tensortime diff base:2 base-rerun compares them",
    )
    assert json.loads(rerun(tree, "base", "--verify", "--json").stdout)["verdict"] is None
    done = rerun(tree, "base")
    assert (done.returncode, done.stdout.startswith("submitted: ")) == (0, True)
    assert api.log(directory=tree.root).experiments[0].status == "submitted"


# --- what cannot be run again


@pytest.mark.parametrize(("mode", "code"), [(None, 127), (0o644, 126)])
def test_a_command_that_is_gone_leaves_nothing_behind(tmp_path: Path, mode: int | None, code: int) -> None:
    """Or is no program any more: one line with what to do; no folder, no experiment."""
    tree = Tree(tmp_path / "p").file("x")
    tool = tmp_path / "bin/tool"
    Tree(tmp_path).file("bin/tool", b"#!/bin/sh\necho 1 > out\n", mode=0o755)
    run_cli("run", "--name", "base", "--", tool, cwd=tree.root)
    tool.unlink() if mode is None else tool.chmod(mode)
    done = rerun(tree)
    assert done.returncode == code
    assert str(tool) in done.stderr.splitlines()[0]
    assert left_behind(tree) == ([], [])


def test_a_secret_that_was_not_recorded_is_asked_for(lab: Tree) -> None:
    """Nothing is restored before; given again it runs, and is hidden again."""
    secret = "hf_" + "a1B2" * 9
    run_cli("run", "--name", "x", "--", sys.executable, "train.py", "--token", secret, cwd=lab.root)
    done = rerun(lab, "x")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2,
        "tensortime: a secret in the command of x was not recorded",
    )
    assert json.loads(rerun(lab, "x", "--json").stdout)["error"]["kind"] == "usage"
    done = rerun(lab, "x", "--verify", "--", "--token", secret)
    assert done.returncode == 0, done.stdout


def test_nothing_to_compare_is_said_before_anything_runs(tmp_path: Path) -> None:
    """A run may take days: that it cannot be verified is said at once."""
    tree = Tree(tmp_path / "p")
    run_cli("run", "--name", "base", "--", "true", cwd=tree.root)
    done = rerun(tree)
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        1,
        "tensortime: nothing to compare: base:2 has no outputs",
    )
    assert "wrote nothing that your rules let in" in done.stderr
    assert left_behind(tree) == ([], [])


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("base", "--rtol=-1"), 2),
        (("base", "--rtol=inf"), 2),
        (("gone",), 4),
        (("base", "--into", "/proc/x"), 1),
    ],
)
def test_a_wrong_call_is_one_line(lab: Tree, options: tuple[str, ...], code: int) -> None:
    """With the exit code of its kind, and nothing left behind."""
    done = rerun(lab, *options)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert left_behind(lab) == ([], [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_rerun_that_is_stopped_keeps_what_there_is(tmp_path: Path, number: int) -> None:
    """As a run does: outputs so far, status interrupted, no verdict, and the exit code of the signal.

    Where it was killed what it made is still in its folder, and `show` names that.
    """
    tree = Tree(tmp_path / "p").file(
        "t.sh", b'#!/bin/sh\necho 1 > out\n[ -z "$WAITS" ] || { touch ready; exec sleep 60; }\n', mode=0o755
    )
    run_cli("run", "--name", "base", "--", "./t.sh", cwd=tree.root)
    command = [sys.executable, "-m", "tensortime", "rerun", "base", "--verify"]
    process = subprocess.Popen(
        command,
        cwd=tree.root,
        env={**os.environ, "WAITS": "1"},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        ready, end = tree.root / "tensortime/base-rerun.run/ready", time.monotonic() + 60
        while not ready.exists() and time.monotonic() < end:
            time.sleep(0.01)
        os.killpg(process.pid, number) if number == signal.SIGKILL else process.send_signal(number)
        told = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert b"reproduced" not in told
    newest = api.log(directory=tree.root).experiments[0]
    assert (newest.name, newest.status) == ("base-rerun", "interrupted")
    left = api.show("base-rerun", directory=tree.root).left
    assert left == (str(tree.root / "tensortime/base-rerun.run") if number == signal.SIGKILL else "")
