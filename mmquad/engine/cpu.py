"""What stock mmengine needs changed to train on CPU processes.

Its launcher selects a CUDA device whatever the backend, its DDP call names a CUDA device, and
SyncBN exists for GPUs only.
"""

import atexit
import datetime
import os
import sys

import torch
import torch.distributed as dist
from mmengine.config import Config

from mmquad.errors import SetupError

__all__ = [
    "adapt_config_to_cpu",
    "end_cpu_process",
    "init_cpu_process_group",
    "replace_sync_bn",
]

_SYNC_BN = {"SyncBN", "MMSyncBN", "NaiveSyncBN", "naiveSyncBN"}


def replace_sync_bn(part: object, key: str = "model") -> list[str]:
    """Turn every ``type='SyncBN'`` in a (nested) config into ``'BN'``, in place.

    Returns:
        Dotted keys of the replaced entries.

    Example:
        >>> replace_sync_bn(dict(head=dict(norm_cfg=dict(type="SyncBN"))))
        ['model.head.norm_cfg']
    """
    replaced = []
    if isinstance(part, dict):
        if part.get("type") in _SYNC_BN:
            part["type"] = "BN"
            replaced.append(key)
        for name, item in part.items():
            replaced += replace_sync_bn(item, f"{key}.{name}")
    elif isinstance(part, list | tuple):
        for index, item in enumerate(part):
            replaced += replace_sync_bn(item, f"{key}.{index}")
    return replaced


def adapt_config_to_cpu(cfg: Config) -> list[str]:
    """Change ``cfg``, in place, so that it trains and tests without CUDA.

    Returns:
        One sentence for each change a user should know of.

    Raises:
        SetupError: If the config asks for what exists on GPUs only.
    """
    optim_type = str((cfg.get("optim_wrapper") or {}).get("type"))
    if optim_type.rpartition(".")[2] == "AmpOptimWrapper":
        raise SetupError(
            "Mixed precision (--amp or optim_wrapper.type='AmpOptimWrapper') needs a GPU and none "
            "is available.\nWhat to do: leave out --amp; for an `amp` config add "
            "--cfg-options optim_wrapper.type=OptimWrapper or use the config without `amp`."
        )
    notes = []
    if cfg.get("launcher", "none") != "none":
        if cfg.launcher != "pytorch":
            raise SetupError(
                f"--launcher {cfg.launcher} needs GPUs and none is available.\n"
                "What to do: on CPUs use --launcher pytorch (tools/dist_train.sh)."
            )
        notes.append("No GPU is available: the processes train on CPU and communicate by gloo.")
        wrapper = {
            "type": "MMDistributedDataParallel",
            "broadcast_buffers": False,
            "find_unused_parameters": cfg.get("find_unused_parameters", False),
        }
        wrapper.update(cfg.get("model_wrapper_cfg") or {})
        cfg.model_wrapper_cfg = wrapper | {"device_ids": None}
    cfg.sync_bn = None
    if replaced := replace_sync_bn(cfg.model):
        notes.append(f"SyncBN needs GPUs: replaced by BN in {', '.join(replaced)}.")
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if cfg.get(loader):
            cfg[loader]["pin_memory"] = False
    return notes


def init_cpu_process_group(cfg: Config) -> None:
    """Join the gloo process group of ``torch.distributed.run``; the Runner then uses it.

    Raises:
        SetupError: If the process was not started by a launcher.
    """
    absent = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR") if name not in os.environ]
    if absent:
        raise SetupError(
            f"--launcher pytorch expects a process started by torch.distributed.run ({absent[0]} "
            "is not set).\nWhat to do: use tools/dist_train.sh CONFIG NUM_PROCESSES."
        )
    timeout = (cfg.get("env_cfg") or {}).get("dist_cfg", {}).get("timeout", 1800)
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=timeout))


def end_cpu_process(launcher: str) -> None:
    """End a finished process of a CPU launch with status 0; return if it is none.

    Seen once in some fifty launches: the C++ threads behind gloo abort the process while the
    interpreter is torn down, which fails a run whose work is done.
    """
    if launcher != "pytorch" or torch.cuda.is_available():
        return
    atexit._run_exitfuncs()  # loggers such as wandb finish their uploads there
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
