"""How a program was launched, and the variables that change what it computes: an allow-list, never the environment.

Environments are full of keys. What is not named here is not recorded; values that are go through `redaction`.
"""

import os
from collections.abc import Iterable, Mapping

from tensortime.formats import text_of
from tensortime.redaction import redact_text

LAUNCH = (
    *("SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT"),
    *("SLURM_NNODES", "SLURM_NTASKS", "SLURM_JOB_NODELIST", "SLURM_JOB_PARTITION", "SLURM_PROCID"),
    *("PBS_JOBID", "LSB_JOBID", "JOB_ID", "FLUX_JOB_ID"),
    *("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS"),
    *("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    *("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    *("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_PROJECT", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"),
    *("RAY_JOB_ID", "KUBERNETES_SERVICE_HOST"),
)
"""Which run this is: other values in every one."""

ENVIRONMENT = (
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
    *("ASCEND_RT_VISIBLE_DEVICES", "CUDA_HOME", "CUDA_LAUNCH_BLOCKING", "CUDA_DEVICE_ORDER"),
    *("CUDA_DEVICE_MAX_CONNECTIONS", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE"),
    *("PYTHONHASHSEED", "PYTHONPATH", "PYTHONOPTIMIZE", "PYTHONNOUSERSITE", "LD_LIBRARY_PATH", "LD_PRELOAD"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "OMP_PROC_BIND"),
    *("NCCL_ALGO", "NCCL_PROTO", "NCCL_P2P_DISABLE", "NCCL_IB_DISABLE", "NCCL_SOCKET_IFNAME", "NCCL_DEBUG"),
    *(
        "PYTORCH_CUDA_ALLOC_CONF",
        "PYTORCH_ALLOC_CONF",
        "TORCH_CUDNN_V8_API_ENABLED",
        "TORCHINDUCTOR_CACHE_DIR",
    ),
    *("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TORCH_COMPILE_DISABLE"),
    *("TF_DETERMINISTIC_OPS", "TF_CUDNN_DETERMINISTIC", "TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS"),
    *("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_PREALLOCATE", "JAX_PLATFORMS", "JAX_ENABLE_X64"),
    *("HF_HOME", "HF_DATASETS_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "TRANSFORMERS_CACHE"),
    *("TOKENIZERS_PARALLELISM", "TORCH_HOME", "WANDB_MODE"),
    *(
        "CONDA_DEFAULT_ENV",
        "CONDA_PREFIX",
        "VIRTUAL_ENV",
        "PYENV_VERSION",
        "CONTAINER_IMAGE",
        "APPTAINER_CONTAINER",
    ),
)
"""What changes the result, or where it comes from: the same values in a run that is to be the same."""


def launch_facts(environ: Mapping[str, str]) -> dict[str, str]:
    """The ids and sizes that a scheduler, launcher or tracker left in the environment."""
    return chosen(environ, LAUNCH)


def environment_facts(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that can change a result."""
    return chosen(environ, ENVIRONMENT)


def chosen(environ: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The variables of a list that are set, without the secrets that show as such."""
    found = ((name, environ[name]) for name in names if environ.get(name))
    return {name: redact_text(text_of(os.fsencode(value))) for name, value in found}
