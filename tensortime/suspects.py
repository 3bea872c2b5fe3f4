"""Which of the causes that differ most likely explain that results do: a fixed order, each place with its reason. Pure.

The order is ours and documented in docs/json.md: what the run computes (code, what it was told, data), then what
computes it (numeric libraries, switches of determinism, GPU and drivers, Python, processor and threads), then the rest.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tensortime.differences import Causes, ValueChange
from tensortime.errors import Message, message

NUMERIC = re.compile(
    r"(?:torch|numpy|scipy|scikit-learn|jax|flax|optax|tensorflow|keras|xgboost|lightgbm|catboost|cupy|numba|triton"
    r"|transformers|accelerate|deepspeed|flash-attn|bitsandbytes|diffusers|timm|peft|nvidia|cuda|cudnn|mkl|openblas"
    r"|mxnet|paddle|mindspore|onnx|pandas|datasets|tokenizers)(?:$|[-_.\d])|(?:py)?torch|tensorflow|jax|paddle"
)
"""Packages that compute, or prepare what is computed with; matched from the beginning of the name."""

SWITCHES = re.compile(
    r"SEED|DETERMINISTIC|CUBLAS_WORKSPACE|TF32|XLA_FLAGS|ONEDNN|CUDNN|ENABLE_X64|PYTHONOPTIMIZE"
)
THREADS = re.compile(r"_NUM_THREADS$|OMP_PROC_BIND|PARALLELISM|WORLD_SIZE|_NTASKS$|_NNODES$")
DEVICES = re.compile(r"VISIBLE_DEVICES|^CUDA|^NCCL|^HIP|^ROCR|^PYTORCH_CUDA|^JAX_PLATFORMS")

REASONS = {
    "code": message("the code itself is another"),
    "told": message("the run was told something else"),
    "data": message("it read other data"),
    "numeric": message("a numeric library may compute otherwise in another version"),
    "switches": message("it sets seeds or switches of determinism"),
    "gpu": message("another GPU or driver may compute in another order"),
    "python": message("another Python"),
    "cpu": message("other processors or threads may add numbers in another order"),
    "package": message("a package that does not compute itself"),
    "variable": message("a variable that can change a result"),
    "place": message("where it ran; rarely a cause"),
}
"""The reasons, the likeliest first: this is the order."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """One cause, and why it stands where it stands."""

    category: str
    """As in Causes: `code`, `command`, `params`, `data`, `packages`, `environment`, `machine`."""
    key: str
    """A path, or the key of a value; of the command an option, or empty."""
    reason: str
    """A key of REASONS."""
    change: str = "changed"
    old: object = None
    new: object = None

    @property
    def why(self) -> Message:
        """The reason, in words."""
        return REASONS[self.reason]


def suspects_of(causes: Causes) -> tuple[Suspect, ...]:
    """All causes, the likeliest first; of one likelihood in the order of their category."""
    order = list(REASONS)
    return tuple(sorted(unordered(causes), key=lambda one: order.index(one.reason)))


def unordered(causes: Causes) -> Iterator[Suspect]:
    """All causes with their reasons."""
    for file in causes.code:
        yield Suspect("code", file.path, "code", file.change)
    if causes.command is not None:
        told = {plain(one.key) for one in causes.params}
        options = causes.command.options
        # What the params tell too is said once.
        yield from (of_value("command", one, "told") for one in options if plain(one.key) not in told)
        if not options:
            yield Suspect(
                "command", "", "told", "changed", list(causes.command.old), list(causes.command.new)
            )
    yield from (of_value("params", one, "told") for one in causes.params)
    for file in causes.data:
        yield Suspect("data", file.path, "data", file.change)
    for one in causes.packages:
        yield of_value("packages", one, "numeric" if NUMERIC.match(one.key.lower()) else "package")
    yield from (of_value("environment", one, reason_of_variable(one.key)) for one in causes.environment)
    yield from (of_value("machine", one, reason_of_machine(one.key)) for one in causes.machine)


def plain(key: str) -> str:
    """An option or parameter by its bare name: `--batch-size` is `batch_size`."""
    return key.lstrip("-").replace("-", "_")


def of_value(category: str, one: ValueChange, reason: str) -> Suspect:
    """A value that differs."""
    return Suspect(category, one.key, reason, one.change, one.old, one.new)


def reason_of_variable(key: str) -> str:
    """What a variable, or a fact of the surroundings, is suspected of."""
    if key in ("python.version", "python.implementation"):
        return "python"
    if key.startswith(("python.", "git.")) or key == "folder":
        return "place"
    for pattern, reason in ((SWITCHES, "switches"), (THREADS, "cpu"), (DEVICES, "gpu")):
        if pattern.search(key):
            return reason
    return "variable"


def reason_of_machine(key: str) -> str:
    """What a fact of the machine is suspected of."""
    if key.startswith(("gpus", "drivers", "torch")):
        return "gpu"
    return "cpu" if key.startswith("cpu") else "place"
