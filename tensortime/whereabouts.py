"""Where a training runs: the folder that says which project it is, and experiments that were begun for it.

Asked in the process that trains, which may have another current folder than its script's.
"""

import contextlib
import os
import sys

from tensortime.errors import TensorTimeError
from tensortime.names import ExperimentName, problem_of


def start_folder() -> str | None:
    """Where the project is looked for: the current folder if the script lies in it, else the script's folder.

    Slurm, Hydra and Ray start a script in a folder of their own. None: the current folder.
    """
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if not isinstance(script, str) or not os.path.exists(script) or is_installed(os.path.realpath(script)):
        return None
    folder = os.path.dirname(os.path.realpath(script))
    try:
        here = os.path.realpath(os.getcwd())
    except OSError:
        return folder
    from tensortime.project import start_of

    return start_of(folder, here)


def is_installed(script: str) -> bool:
    """Whether a script is Python's or a package's, as with pytest or `python -m cProfile`: no word on the project."""
    import sysconfig

    places = {os.path.dirname(os.path.realpath(sys.executable)), os.path.dirname(sys.executable)}
    for scheme in (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user")):
        paths = sysconfig.get_paths(scheme)
        places |= {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib", "scripts")}
    around = {os.path.realpath(place) for place in places if place}
    packages = {"site-packages", "dist-packages"}.intersection(script.split("/"))
    return bool(packages) or any(script.startswith(place.rstrip("/") + "/") for place in around)


def configured_strict() -> bool:
    """Whether the project's configuration asks for errors instead of warnings."""
    from tensortime import lookup

    with contextlib.suppress(TensorTimeError, OSError):
        return lookup.locate(start_folder())[1].strict
    return False


def begun_by_hook(backup_dir: str | None) -> ExperimentName | None:
    """The experiment that the shell hook began for this very command, just before it started."""
    from tensortime import handover, lookup

    place, _ = lookup.locate(start_folder(), backup_dir)
    experiment = handover.claim(os.path.join(place.store, ".cache"), place.project)
    return None if experiment is None or problem_of(experiment) else ExperimentName(experiment)


def store_with(experiment: ExperimentName, backup_dir: str | None) -> str | None:
    """The store of this training's project, if it holds this experiment."""
    from tensortime import history, landmarks, lookup, store

    folder = lookup.locate(start_folder(), backup_dir)[0].store
    there = landmarks.is_store(folder) and store.open_store(folder).shadow.ref(
        history.experiment_ref(experiment)
    )
    return folder if there else None
