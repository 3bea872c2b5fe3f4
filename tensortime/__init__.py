"""TensorTime: every run of a training script is a place you can go back to.

    from tensortime import TimeMachine
    tm = TimeMachine()
    tm.backup()

Importing this loads nothing else: train.py pays for what it uses, when it uses it.
"""

TYPE_CHECKING = False  # as type checkers know it; `typing` itself would take longer to load than all of this
if TYPE_CHECKING:
    from tensortime.api import backup, diff, log, note, restore, settings, show, tag
    from tensortime.errors import TensorTimeError
    from tensortime.maintenance import doctor, gc, purge, verify
    from tensortime.portable import export_experiment, import_file
    from tensortime.rerunning import rerun
    from tensortime.running import run
    from tensortime.time_machine import TimeMachine
    from tensortime.upkeep import du, rm, rm_worktree, trashed, undelete

__version__ = "0.2.0"
__all__ = [
    "TensorTimeError",
    "TimeMachine",
    "__version__",
    "backup",
    "diff",
    "doctor",
    "du",
    "export_experiment",
    "gc",
    "import_file",
    "log",
    "note",
    "purge",
    "rerun",
    "restore",
    "rm",
    "rm_worktree",
    "run",
    "settings",
    "show",
    "tag",
    "trashed",
    "undelete",
    "verify",
]

_HOMES = {
    "doctor": "maintenance",
    "gc": "maintenance",
    "purge": "maintenance",
    "verify": "maintenance",
    "export_experiment": "portable",
    "import_file": "portable",
    "TimeMachine": "time_machine",
    "TensorTimeError": "errors",
    "backup": "api",
    "diff": "api",
    "log": "api",
    "note": "api",
    "restore": "api",
    "settings": "api",
    "show": "api",
    "tag": "api",
    "du": "upkeep",
    "rm": "upkeep",
    "rm_worktree": "upkeep",
    "rerun": "rerunning",
    "run": "running",
    "trashed": "upkeep",
    "undelete": "upkeep",
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tensortime' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"tensortime.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)
