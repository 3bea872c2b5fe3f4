"""What a backup remembers of the run, from the faces to the store. CASES S14, C16."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from builders import Tree, run_cli
from repositories import CANARY, git, make_repository, wait_until
from stores import everything_in
from test_notebook import SECRET_CELLS, run_notebook

from tensortime import TimeMachine, api, collector
from tensortime.interpreter import Interpreter
from tensortime.packages import decode_packages, installed
from tensortime.reports import BackupReport

KEY = "hf_" + CANARY * 3
HARD = f"{CANARY}9!.pw"
MANY = 20
"""How often a process of its own is started anew: 30 ms may be too little where a machine has other things to do."""


def run_of(project: Path, name: str = "@") -> Mapping[str, Any]:
    """The run.json of a backup."""
    return api.show(name, directory=project).run


def packages_of(project: Path, name: str = "@") -> dict[str, str]:
    """The packages of a backup."""
    data, _ = api.read_file(name, ".tensortime/packages.txt", directory=project)
    assert data is not None
    return decode_packages(data)


def fake_venv(folder: Path) -> Path:
    """A virtual environment with a package of its own."""
    tree = Tree(folder).file("pyvenv.cfg", f"home = {Path(sys.base_prefix)}/bin\nversion = 3.12.9\n".encode())
    tree.file("lib/python3.12/site-packages/only_there-7.0.dist-info/METADATA", b"")
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one file, which is the current folder."""
    Tree(tmp_path / "project").file("train.py", b"lr = 1\n")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def wait_for_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a test is about what is found, it is not about how fast this machine is."""
    monkeypatch.setattr("tensortime.publication.ENVIRONMENT_SECONDS", 30)


def test_in_process_it_is_this_python(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TimeMachine and tensortime.backup() are called by the Python that trains, whatever the shell has."""
    wait_for_facts(monkeypatch)
    monkeypatch.setenv("VIRTUAL_ENV", "/elsewhere")
    TimeMachine(exp_dir="x").backup()
    run = run_of(project)
    assert (run["python"]["source"], run["python"]["prefix"]) == ("this process", sys.prefix)
    assert packages_of(project).keys() == {one.name for one in installed(sys.path)}
    assert run["machine"]["cpus"] >= 1
    assert run["environment"]["VIRTUAL_ENV"] == "/elsewhere"


def test_the_command_line_records_the_python_of_the_shell(project: Path, tmp_path: Path) -> None:
    """The tool may be installed apart: VIRTUAL_ENV says which Python trains; packages.txt can be shown."""
    venv = fake_venv(tmp_path / "venv")
    surroundings = {"VIRTUAL_ENV": str(venv), "SLURM_JOB_ID": "4711", "CUDA_VISIBLE_DEVICES": "1"}
    for _ in range(MANY):
        assert run_cli("backup", "--name", "x", cwd=project, env=surroundings).returncode == 0
        if "packages" not in run_of(project):
            break
    run = run_of(project)
    assert run["python"] == {
        "executable": f"{venv}/bin/python",
        "source": "VIRTUAL_ENV",
        "version": "3.12.9",
        "implementation": "cpython",
        "prefix": str(venv),
    }
    assert (run["launch"], run["environment"]["CUDA_VISIBLE_DEVICES"]) == ({"SLURM_JOB_ID": "4711"}, "1")
    shown = run_cli("show", "@", ".tensortime/packages.txt", cwd=project)
    assert shown.stdout == f"# cpython 3.12.9: {venv}/bin/python\nonly-there==7.0\n"


def test_without_a_python_there_are_no_packages(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not known is said: an empty list would say that nothing is installed."""
    wait_for_facts(monkeypatch)
    monkeypatch.setattr(
        collector, "shell_interpreter", lambda *_: Interpreter({"error": "no python on PATH"})
    )
    report = api.backup(directory=project, from_shell=True)
    run = run_of(project)
    assert run["python"] == run["packages"] == {"error": "no python on PATH"}
    assert ".tensortime/packages.txt" not in files_of(project, report)


def files_of(project: Path, report: BackupReport) -> list[str]:
    """The paths in the tree of a backup."""
    shadow = str(project / "tensortime" / ".shadow")
    return git(project, "--git-dir", shadow, "ls-tree", "-r", "--name-only", str(report.commit)).splitlines()


def test_what_is_late_delays_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site-packages on a file server that hangs: the backup is made, and says what it could not know."""
    release, threads = threading.Event(), threading.active_count()

    def hang(_: object) -> list[object]:
        release.wait(60)
        return []

    monkeypatch.setattr(collector, "installed", hang)
    started = time.monotonic()
    report = api.backup(directory=project, from_shell=True)
    assert time.monotonic() - started < 2
    release.set()
    wait_until(lambda: threading.active_count() == threads)
    assert run_of(project)["packages"] == {"error": "not known in time"}
    assert ".tensortime/packages.txt" not in files_of(project, report)


def test_what_fails_costs_nothing_else(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error among the facts, and the backup is whole."""
    wait_for_facts(monkeypatch)

    def fail(_: object) -> list[object]:
        raise OSError(f"https://u:{CANARY}@host is gone")

    monkeypatch.setattr(collector, "installed", fail)
    assert api.backup(directory=project).exit_code == 0
    run = run_of(project)
    assert run["packages"] == {"error": "https://host is gone"}
    assert run["machine"]["cpus"] >= 1


def test_each_whole_backup_has_its_own_files(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A package that was installed between two backups shows in the second; adding keeps what was."""
    wait_for_facts(monkeypatch)
    venv = fake_venv(tmp_path / "venv")
    monkeypatch.setenv("VIRTUAL_ENV", str(venv))
    site = venv / "lib/python3.12/site-packages"
    api.backup(directory=project, name="x", from_shell=True)
    (site / "new-1.0.dist-info").mkdir()
    api.backup(directory=project, name="x", add=["train.py"], from_shell=True)
    api.backup(directory=project, name="x", joins=True, from_shell=True)
    assert [sorted(packages_of(project, f"x:{n}")) for n in (1, 2, 3)] == [
        ["only-there"],
        ["only-there"],
        ["new", "only-there"],
    ]


# --- S14: no secret in the store


CARELESS = (".env", "sub/.env.prod", "id_rsa", "server.pem", "private.yaml", "../deploy.json", "../.env")
"""Tracked files that the backup leaves out, or that are none of the project's."""


def careless_repository(tmp_path: Path) -> Path:
    """A project in a folder of a repository, which tracks files full of secrets and has changes nobody pushed."""
    repository = make_repository(tmp_path / "repository")
    project = repository / "project"
    Tree(project).file("train.py", b"lr = 1\n").file("model.py", b"").file(
        ".ttignore", b"*.ipynb\nprivate.yaml\ngone.yaml\n"
    )
    for name in CARELESS:
        Tree(project).file(name, b"old\n")
    Tree(project).file("gone.yaml", CANARY.encode())
    git(repository, "add", "--all", "--force")
    git(repository, "commit", "-q", "-m", "careless")
    git(repository, "init", "-q", "--bare", str(tmp_path / "origin"))
    git(repository, "remote", "add", "origin", str(tmp_path / "origin"))
    git(repository, "push", "-q", "-u", "origin", "main")
    git(repository, "remote", "add", "other", f"https://lin:{CANARY}@host.example/x.git")
    for name in (*CARELESS, ".netrc", "kaggle.json"):
        Tree(project).file(name, f"KEY={CANARY}\n".encode())
    (project / "gone.yaml").unlink()
    (project / "train.py").write_text(
        "import sys\nfrom tensortime import TimeMachine\n"
        "p = {'hub': {'api_key': sys.argv[2]}, 'url': 'https://u:' + sys.argv[2] + '@h/x', 'model': sys.argv[4],\n"
        "     'wandb_key': sys.argv[2], 'dsn': 'host=h password=' + sys.argv[2] + '9!.pw', 'n_token': 512,\n"
        "     'data': 'https://h/x?sig=' + sys.argv[2] + '%2F&lr=1', 'pass': sys.argv[2]}\n"
        "TimeMachine(exp_dir='x', strict=True).backup(params=p, metrics={'token': sys.argv[2]})\n"
    )
    git(repository, "add", "project/train.py")
    return project


def test_no_secret_gets_into_the_store(tmp_path: Path) -> None:
    """S14: in argv, in variables, params, metrics, addresses, files called like secrets or not of the project,
    remotes, patches, packages, the record of the hook, a notebook."""
    project = careless_repository(tmp_path)
    venv = fake_venv(tmp_path / "venv")
    info = "lib/python3.12/site-packages/private-1.dist-info/direct_url.json"
    Tree(venv).file(info, b'{"url": "https://t:%s@host.example/p.whl"}' % CANARY.encode())
    site = venv / "lib/python3.12/site-packages"
    secrets = dict.fromkeys(
        ("WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "X"), CANARY
    )
    addresses = dict.fromkeys(("HF_ENDPOINT", "MLFLOW_TRACKING_URI"), f"https://u:{CANARY}@host.example")
    surroundings = {
        **os.environ,
        "HOME": str(tmp_path),  # the hostile one puts every file under a filter, and then no patch has any
        **secrets,
        **addresses,
        "PYTHONPATH": f"{Path.cwd()}:{site}",
        "WANDB_MODE": KEY,
    }
    words = [sys.executable, "train.py", "--api-key", CANARY, f"--name={KEY}", KEY, f"token={CANARY}"]
    words += ["--wandb-key", HARD, f"DB_PASS={HARD}", "--header", f"Authorization: Basic {CANARY}"]
    words += ["--jwt", HARD, f"https://h/x?X-Amz-Signature={CANARY}&y", f"X-Api-Key: {HARD}"]
    for number in range(MANY):
        subprocess.run(words, cwd=project, env=surroundings, check=True, capture_output=True)
        if number and run_of(project)["git"].get("pushed", {}).get("patch"):
            break
    typed = f"COMET_KEY={HARD} python train.py --openai-key {HARD} --pwd {HARD}"
    command = [sys.executable, "-m", "tensortime", "hook", "--before", typed]
    subprocess.run(command, cwd=project, env=surroundings, check=True, capture_output=True)
    surroundings["VIRTUAL_ENV"] = str(venv)
    for _ in range(MANY):
        done = run_cli("backup", "--name", "y", cwd=project, env=surroundings)
        assert done.returncode == 0, done.stderr
        if "packages" not in run_of(project):
            break
    (project / "weights").write_bytes(os.urandom(2 << 20))
    assert run_cli("backup", "--name", "y", "--add", "weights", cwd=project, env=surroundings).returncode == 0
    run_notebook(project, tmp_path, SECRET_CELLS)
    found = everything_in(project / "tensortime")
    assert len(found) > 30
    assert not [place for place, data in found.items() if CANARY.encode() in data]
    assert any("/.cache/hook-" in place and b'"COMET_KEY=***"' in data for place, data in found.items())
    everything = b"".join(found.values())
    for expected in (
        b"***",
        b"+import sys",
        b"private @ https://host.example/p.whl",
        b'"other": "https://host.example',
        b"password=***",
        b"https://h/x?sig=***&lr=1",
        b'"n_token": 512',
        b"!true --api-key ***",
    ):
        assert expected in everything, expected


def test_the_search_for_secrets_finds_one(tmp_path: Path) -> None:
    """A key in a file is stored as it is, as README says: so the search above can find one."""
    Tree(tmp_path / "p").file("notebook.ipynb", f'{{"source": ["key = {CANARY}"]}}'.encode())
    Tree(tmp_path / "p").file("large.bin", bytes(2 << 20) + CANARY.encode())
    api.backup(directory=tmp_path / "p", params={"planted": CANARY}, note=f"{CANARY}-note")
    found = everything_in(tmp_path / "p" / "tensortime")
    places = {place for place, data in found.items() if CANARY.encode() in data}
    assert len(places) == 3, "the small file inflated, the commit with note and params, the large file"
    assert [place for place in places if ".objects" in place]
