"""The runs of other trackers that the program has open: so that a backup and a page of curves find each other.

Looked for among the loaded modules only, never imported, and asked in the thread that trains: mlflow's active run
belongs to a thread. A tracker that is broken, half imported or of another version costs nothing but its own facts.
"""

import sys
from collections.abc import Callable
from typing import Any

from tensortime.redaction import redact_text

Run = dict[str, object]


def tracker_runs() -> dict[str, Run]:
    """The open runs, by tracker."""
    found = {}
    for name, question in QUESTIONS.items():
        module = sys.modules.get(name)
        if module is None:
            continue
        try:
            run = question(module)
        except Exception:  # noqa: BLE001, S112 - what somebody else's tracker does is no reason to fail
            continue
        if run:
            found[name] = {key: plain(value) for key, value in run.items() if value is not None}
    return found


def plain(value: object) -> object:
    """A fact of a tracker as text or switch; an object of its own would not be a fact."""
    return value if isinstance(value, bool) else redact_text(str(value))


def wandb_run(wandb: Any) -> Run:
    """Weights & Biases: the run that `wandb.init` made."""
    run = wandb.run
    return {} if run is None else attributes(run, "id", "name", "project", "path", "url", "offline")


def mlflow_run(mlflow: Any) -> Run:
    """MLflow: the active run of this thread."""
    run = mlflow.active_run()
    if run is None:
        return {}
    info = run.info
    return {
        "run_id": info.run_id,
        "experiment_id": info.experiment_id,
        "tracking_uri": asked(mlflow.get_tracking_uri),
    }


def swanlab_run(swanlab: Any) -> Run:
    """SwanLab: the run that `swanlab.init` made; its names have moved between versions."""
    run = swanlab.get_run()
    if run is None:
        return {}
    public = asked(lambda: run.public)
    cloud = asked(lambda: public.cloud)
    return {
        **attributes(public, "project_name", "run_id", "run_dir"),
        **attributes(cloud, "run_id", "run_url", "experiment_url"),
        **attributes(run, "id", "url"),
    }


def clearml_task(clearml: Any) -> Run:
    """ClearML: the current task."""
    task = clearml.Task.current_task()
    return {} if task is None else attributes(task, "id", "name")


QUESTIONS: dict[str, Callable[[Any], Run]] = {
    "wandb": wandb_run,
    "mlflow": mlflow_run,
    "swanlab": swanlab_run,
    "clearml": clearml_task,
}


def attributes(thing: object, *names: str) -> Run:
    """These attributes of an object, as far as it has them and they answer."""
    found = {name: asked(lambda name=name: getattr(thing, name)) for name in names}  # type: ignore[misc]
    return {
        name: value for name, value in found.items() if isinstance(value, str | bool | int) and value != ""
    }


def asked(question: Callable[[], Any]) -> Any:
    """An answer, or None instead of an exception."""
    try:
        return question()
    except Exception:  # noqa: BLE001 - one fact less
        return None
