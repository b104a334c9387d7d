"""From a config and command-line options to a finished run, for mmdet, mmseg and mmpretrain.

The library is the one of the config's ``default_scope``. Everything that can be found wrong
without building the model is found here first: facts are raised as a `SetupError`, guesses become
warnings of the log (``checks.policy``).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmquad.checkpoints import CheckpointFileError, CheckpointMismatchError
from mmquad.checks.annotation_files import check_annotations
from mmquad.checks.damaged_images import explain_unreadable_image
from mmquad.checks.data_paths import check_checkpoints, check_data, set_data_root
from mmquad.checks.option_arguments import check_option_arguments
from mmquad.checks.policy import is_on, report
from mmquad.checks.weight_decay import note_decay
from mmquad.engine.config_loading import library_of, read_config
from mmquad.engine.cpu import adapt_config_to_cpu, init_cpu_process_group
from mmquad.engine.evaluation import add_result_file, add_tta, add_visualization
from mmquad.engine.resumption import check_resumable, find_resumable, run_checkpoints
from mmquad.engine.work_dirs import check_writable, sole_training
from mmquad.environment import find_problems
from mmquad.errors import SetupError

__all__ = ["Plan", "plan_test", "plan_training", "run_test", "run_training"]

_STRICT_WEIGHTS = {"type": "mmquad.StrictWeightsHook"}
_CLASS_CHECK = {"type": "mmquad.ClassCheckHook"}
TASKS = {"mmdet": "det", "mmseg": "seg", "mmpretrain": "cls"}


@dataclass
class Plan:
    """A config that is ready for ``Runner.from_cfg``, and what the log should say about it.

    Args:
        cfg: The config.
        notes: What was decided.
        warnings: What may be wrong.
    """

    cfg: Config
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def plan_training(
    config: str,
    *,
    work_dir: str | None = None,
    resume: str | None = None,
    amp: bool = False,
    auto_scale_lr: bool = False,
    data_root: str | None = None,
    cfg_options: dict | None = None,
    launcher: str = "none",
) -> Plan:
    """Prepare a training run.

    Args:
        config: Path of the config.
        work_dir: Folder of logs and checkpoints; default the config's, then
            ``work_dirs/<config name>``.
        resume: ``auto`` for the latest checkpoint in ``work_dir``, or the path of one.
        amp: Train in mixed precision.
        auto_scale_lr: Scale the learning rate by actual over base batch size.
        data_root: Folder that holds the data, in place of the config's.
        cfg_options: Overrides of config keys.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.

    Raises:
        SetupError: If the run could not start; nothing has been built by then.
    """
    plan = _load(config, work_dir, data_root, cfg_options, launcher)
    cfg = plan.cfg
    if amp:
        _enable_amp(cfg)
    if auto_scale_lr:
        if "base_batch_size" not in (cfg.get("auto_scale_lr") or {}):
            raise SetupError(
                "--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config: the "
                "total batch size its learning rate is meant for."
            )
        cfg.auto_scale_lr.enable = True
    if resume is None and cfg.get("resume") and not cfg.get("load_from"):
        resume = "auto"  # what it means to mmengine
    if resume is not None:
        plan.notes += _set_resume(cfg, resume)
    elif earlier := run_checkpoints(cfg.work_dir):
        plan.notes.append(
            f"{cfg.work_dir} holds {len(earlier)} checkpoints of an earlier training, up to "
            f"{earlier[0].name}: this one starts anew and replaces those of its names. To "
            "continue that one, use --resume."
        )
    # Sharded training (FlexibleRunner) compares its shards itself.
    if (cfg.get("load_from") or cfg.get("resume")) and cfg.get("runner_type", "Runner") == "Runner":
        _add_hook(cfg, _STRICT_WEIGHTS | {"backbone_only": not cfg.get("resume")})
    for note in note_decay(cfg):
        report("weight-decay", note, plan.warnings.append)
    _finish(plan, splits=("train", "val"))
    return plan


def plan_test(
    config: str,
    checkpoint: str,
    *,
    work_dir: str | None = None,
    out: str | None = None,
    show: bool = False,
    show_dir: str | None = None,
    wait_time: float = 2.0,
    tta: bool = False,
    data_root: str | None = None,
    cfg_options: dict | None = None,
    launcher: str = "none",
) -> Plan:
    """Prepare a test run.

    Args:
        config: Path of the config.
        checkpoint: Weights to test.
        work_dir: As for training.
        out: File (``.pkl``) for the predictions; for mmseg also a folder, for label maps.
        show: Show each prediction in a window, for ``wait_time`` seconds.
        show_dir: Folder for drawn predictions.
        wait_time: Seconds per window.
        tta: Test-time augmentation.
        data_root: Folder that holds the data, in place of the config's.
        cfg_options: Overrides of config keys.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.

    Raises:
        SetupError: If the run could not start; nothing has been built by then.
    """
    plan = _load(config, work_dir, data_root, cfg_options, launcher)
    plan.cfg.load_from = checkpoint
    plan.cfg.resume = False
    _add_hook(plan.cfg, _STRICT_WEIGHTS)
    if show or show_dir:
        add_visualization(plan.cfg, show=show, show_dir=show_dir, wait_time=wait_time)
    if tta:
        add_tta(plan.cfg)
    if out is not None:
        _check_writable(Path(out).parent, "--out")
        add_result_file(plan.cfg, out)
    _finish(plan, splits=("test",))
    return plan


def run_training(plan: Plan) -> None:
    """Train as planned.

    Raises:
        SetupError: If a checkpoint does not fit the model, or data is damaged.
    """
    alone = sole_training(plan.cfg.work_dir) if is_on("work-dir") else nullcontext()
    with alone, _process_group(), _explained(plan, ("train", "val")):
        _build_runner(plan).train()


def run_test(plan: Plan) -> dict[str, float]:
    """Test as planned and return the metrics.

    Raises:
        SetupError: If the checkpoint does not fit the model, or data is damaged.
    """
    with _process_group(), _explained(plan, ("test",)):
        return _build_runner(plan).test()


def _load(
    config: str,
    work_dir: str | None,
    data_root: str | None,
    cfg_options: dict | None,
    launcher: str,
) -> Plan:
    warnings: list[str] = []
    cfg = read_config(config, cfg_options, warnings.append)
    notes = _check_environment(TASKS[library_of(cfg)], warnings.append)
    check_option_arguments(cfg, cfg_options or (), warnings.append)
    if data_root is not None:
        set_data_root(cfg, data_root)
    cfg.launcher = launcher
    cfg.work_dir = work_dir or cfg.get("work_dir") or str(Path("work_dirs") / Path(config).stem)
    _check_writable(cfg.work_dir, "--work-dir")
    return Plan(cfg, notes, warnings)


def _check_writable(folder: str | Path, option: str) -> None:
    if is_on("work-dir"):
        check_writable(folder, option)


def _add_hook(cfg: Config, hook: dict) -> None:
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), hook]


def _check_environment(task: str, warn: Callable[[str], object]) -> list[str]:
    if not is_on("environment"):
        return []
    problems = find_problems(task)
    if any(problem.severity == "error" for problem in problems):
        listed = "\n".join(f"{p.severity}: {p.what}\n  fix: {p.fix}" for p in problems)
        report("environment", f"The environment cannot run this config.\n\n{listed}", warn)
    return [f"{problem.what} Fix: {problem.fix}" for problem in problems]


def _enable_amp(cfg: Config) -> None:
    current = str(cfg.optim_wrapper.get("type", "OptimWrapper"))
    if current not in ("OptimWrapper", "AmpOptimWrapper"):
        raise SetupError(
            f"--amp replaces OptimWrapper by AmpOptimWrapper, but optim_wrapper.type is {current}; "
            "set the precision in the config instead."
        )
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    cfg.optim_wrapper.setdefault("loss_scale", "dynamic")


def _set_resume(cfg: Config, resume: str) -> list[str]:
    if resume != "auto":
        if "://" not in resume and not Path(resume).is_file():
            raise SetupError(f"Checkpoint to resume not found: {resume} (from {Path.cwd()}).")
        if "://" not in resume and is_on("checkpoint-files"):
            check_resumable(resume)
        cfg.resume, cfg.load_from = True, resume
        return [f"Resuming from {resume}."]
    latest, notes = find_resumable(cfg.work_dir)
    if latest is None:
        cfg.resume = False
        return [f"Nothing to resume: no checkpoint in {cfg.work_dir}. Starting from the beginning."]
    cfg.resume, cfg.load_from = True, str(latest)
    return [*notes, f"Resuming from {latest}, the latest checkpoint of {cfg.work_dir}."]


def _finish(plan: Plan, splits: tuple[str, ...]) -> None:
    cfg, warn = plan.cfg, plan.warnings.append
    if cfg.default_scope == "mmpretrain":
        _set_mmpretrain_loader_defaults(cfg)
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        loader = cfg.get(name)
        if loader and loader.get("num_workers", 0) == 0:
            loader.pop("prefetch_factor", None)
            if loader.pop("persistent_workers", False):
                plan.notes.append(f"{name}: num_workers=0, so persistent_workers is off.")
    if not torch.cuda.is_available():
        plan.notes += adapt_config_to_cpu(cfg)
    if not any(hook.get("type") == _CLASS_CHECK["type"] for hook in cfg.get("custom_hooks") or []):
        _add_hook(cfg, _CLASS_CHECK)
    check_checkpoints(cfg, warn, initial_weights="train" in splits)
    check_data(cfg, splits, warn)
    check_annotations(cfg, splits, warn)


def _set_mmpretrain_loader_defaults(cfg: Config) -> None:
    # mmpretrain's own tools add these; its pipelines give tensors that must be stacked.
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if cfg.get(name):
            cfg[name].setdefault("pin_memory", True)
            cfg[name].setdefault("persistent_workers", True)
            cfg[name].setdefault("collate_fn", {"type": "default_collate"})


def _build_runner(plan: Plan) -> Runner:
    cfg = plan.cfg
    if cfg.launcher == "pytorch" and not torch.cuda.is_available():
        init_cpu_process_group(cfg)
    # As the hosts' tools do; runner_type='FlexibleRunner' is mmengine's for sharded training.
    runner = RUNNERS.get(cfg.get("runner_type", "Runner")).from_cfg(cfg)
    for note in plan.notes:
        runner.logger.info(note)
    for warning in plan.warnings:
        runner.logger.warning(warning)
    return runner


@contextmanager
def _explained(plan: Plan, splits: tuple[str, ...]) -> Iterator[None]:
    """Turn errors about checkpoints into messages; name all damaged images where one is met."""
    try:
        yield
    except (CheckpointFileError, CheckpointMismatchError) as error:
        raise SetupError(str(error)) from error
    except Exception as error:
        if is_on("images"):
            explain_unreadable_image(error, plan.cfg, splits)
        raise


@contextmanager
def _process_group() -> Iterator[None]:
    """Leave the process group at the end, together: rank 0 may still be writing a checkpoint."""
    try:
        yield
        if dist.is_available() and dist.is_initialized():
            dist.barrier()
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
