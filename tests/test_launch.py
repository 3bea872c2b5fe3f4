"""What is recorded of a launch: an allow-list of variables, and the open runs of other trackers. CASES S14, C16."""

import subprocess
import sys
import types
from pathlib import Path

import pytest
from builders import clean_environment
from repositories import CANARY, PACKAGE, python

from tensortime.credentials import names_secret
from tensortime.launch import ENVIRONMENT, LAUNCH, environment_facts, launch_facts
from tensortime.trackers import tracker_runs


def test_only_what_is_listed_is_recorded() -> None:
    """S14: ids apart from what changes a result; nothing else of the environment, and no empty value."""
    environ = {
        "SLURM_JOB_ID": "4711",
        "SLURM_ARRAY_TASK_ID": "3",
        "TORCHELASTIC_RUN_ID": "x",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "",
        "WANDB_API_KEY": CANARY,
        "HF_TOKEN": CANARY,
        "AWS_SECRET_ACCESS_KEY": CANARY,
        "MY_VARIABLE": CANARY,
    }
    assert launch_facts(environ) == {
        "SLURM_JOB_ID": "4711",
        "SLURM_ARRAY_TASK_ID": "3",
        "TORCHELASTIC_RUN_ID": "x",
    }
    assert environment_facts(environ) == {"CUDA_VISIBLE_DEVICES": "0,1", "PYTHONHASHSEED": "0"}
    assert not [name for name in (*LAUNCH, *ENVIRONMENT) if names_secret(name)]
    assert len({*LAUNCH, *ENVIRONMENT}) == len(LAUNCH) + len(ENVIRONMENT)


def test_values_lose_their_secrets() -> None:
    """S14: an address with a password, a flag with a key; a value that is no UTF-8 survives."""
    environ = {
        "HF_ENDPOINT": f"https://u:{CANARY}@mirror/x",
        "XLA_FLAGS": f"--xla_x=1 --api_key={CANARY}",
        "PYTHONPATH": "/a\udcff",
    }
    assert environment_facts(environ) == {
        "HF_ENDPOINT": "https://mirror/x",
        "XLA_FLAGS": "--xla_x=1 --api_key=***",
        "PYTHONPATH": "/a\udcff",
    }


# --- trackers: faithful to the names in their wheels; mlflow's own code below


class Broken:
    """An object none of whose attributes answers."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


def module(name: str, **names: object) -> types.ModuleType:
    """A loaded module."""
    made = types.ModuleType(name)
    made.__dict__.update(names)
    return made


def space(**names: object) -> types.SimpleNamespace:
    """An object with these attributes."""
    return types.SimpleNamespace(**names)


def test_open_runs_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Id and address of each, without secrets."""
    run = space(id="a1b2", name="sunny-1", project="digits", path="lin/digits/a1b2", offline=False)
    run.url = f"https://x:{CANARY}@wandb.example/lin/digits/runs/a1b2"
    monkeypatch.setitem(sys.modules, "wandb", module("wandb", run=run))
    active = space(info=space(run_id="0f5a", experiment_id="7"))
    tracking = f"http://u:{CANARY}@mlflow.example"
    mlflow = module("mlflow", active_run=lambda: active, get_tracking_uri=lambda: tracking)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    public = space(project_name="digits", cloud=space(run_id="s1", run_url="https://swanlab.example/s1"))
    monkeypatch.setitem(sys.modules, "swanlab", module("swanlab", get_run=lambda: space(public=public)))
    task = space(id="c1", name="digits")
    clearml = module("clearml", Task=space(current_task=lambda: task))
    monkeypatch.setitem(sys.modules, "clearml", clearml)
    assert tracker_runs() == {
        "wandb": {
            "id": "a1b2",
            "name": "sunny-1",
            "project": "digits",
            "path": "lin/digits/a1b2",
            "url": "https://wandb.example/lin/digits/runs/a1b2",
            "offline": False,
        },
        "mlflow": {"run_id": "0f5a", "experiment_id": "7", "tracking_uri": "http://mlflow.example"},
        "swanlab": {"project_name": "digits", "run_id": "s1", "run_url": "https://swanlab.example/s1"},
        "clearml": {"id": "c1", "name": "digits"},
    }


def test_loaded_but_without_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is recorded of a tracker that tracks nothing."""
    monkeypatch.setitem(sys.modules, "wandb", module("wandb", run=None))
    monkeypatch.setitem(sys.modules, "mlflow", module("mlflow", active_run=lambda: None))
    monkeypatch.setitem(sys.modules, "swanlab", module("swanlab", get_run=lambda: None))
    clearml = module("clearml", Task=space(current_task=lambda: None))
    monkeypatch.setitem(sys.modules, "clearml", clearml)
    assert tracker_runs() == {}


@pytest.mark.parametrize("name", ["wandb", "mlflow", "swanlab", "clearml"])
@pytest.mark.parametrize("broken", ["half imported", "raises", "strange objects", "no module"])
def test_a_broken_tracker_costs_nothing(monkeypatch: pytest.MonkeyPatch, name: str, broken: str) -> None:
    """Whatever it does, the others are still asked."""

    def refuse() -> object:
        raise RuntimeError("not logged in")

    answers = {
        "half imported": module(name),
        "raises": module(name, run=Broken(), active_run=refuse, get_run=refuse, Task=Broken()),
        "strange objects": module(name, run=Broken(), active_run=Broken, get_run=Broken, Task=Broken()),
        "no module": None,
    }
    monkeypatch.setitem(sys.modules, name, answers[broken])
    other = "clearml" if name == "wandb" else "wandb"
    known = space(id="1")
    monkeypatch.setitem(sys.modules, other, module(other, run=known, Task=space(current_task=lambda: known)))
    assert tracker_runs() == {other: {"id": "1"}}


REAL = {
    "mlflow": """
import mlflow
mlflow.set_tracking_uri("file://" + sys.argv[1])
with mlflow.start_run() as run:
    found = tracker_runs()
    assert found["mlflow"]["run_id"] == run.info.run_id
    thread = threading.Thread(target=lambda: elsewhere.update(tracker_runs()))
    thread.start()
    thread.join()
    assert not elsewhere, "an active run belongs to its thread"
assert not tracker_runs()
""",
    "wandb": """
import wandb
assert not tracker_runs()
run = wandb.init(project="digits", dir=sys.argv[1])
found = tracker_runs()
assert found["wandb"]["id"] == run.id
assert found["wandb"]["offline"] is True
run.finish()
""",
}


@pytest.mark.parametrize("name", sorted(REAL))
def test_a_real_tracker(tmp_path: Path, name: str) -> None:
    """The real mlflow and wandb, offline: the run that is open is the one that is recorded."""
    code = f"import sys, threading; sys.path.insert(0, {PACKAGE!r}); elsewhere = {{}}\n"
    code += "from tensortime.trackers import tracker_runs" + REAL[name] + "print(sorted(found))"
    environ = {
        **clean_environment(),
        "HOME": str(tmp_path),
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_DISABLE_GIT": "true",
        "WANDB_API_KEY": CANARY,
    }
    command = [sys.executable, "-c", code, str(tmp_path / "runs")]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == (f"['{name}']\n", 0), done.stderr


def test_nothing_is_imported() -> None:
    """A tracker that the program does not use is not loaded, even where it is installed."""
    code = "from tensortime.trackers import tracker_runs; print(tracker_runs(), 'mlflow' in sys.modules)"
    assert python(code) == "{} False\n"
