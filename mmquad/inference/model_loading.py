"""From a config and a checkpoint to a model that is ready to be looked at."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmquad.checkpoints import CheckpointFileError, CheckpointMismatchError
from mmquad.checkpoints.download import read_checkpoint_from
from mmquad.checkpoints.loading import fitting_weights
from mmquad.compat import runner_checkpoint_globals
from mmquad.engine.config_loading import read_config
from mmquad.engine.cpu import replace_sync_bn
from mmquad.errors import SetupError

__all__ = ["build_model"]


def build_model(
    config: str | Path, checkpoint: str | Path | None = None, cfg_options: dict | None = None
) -> tuple[nn.Module, Config]:
    """The model of a config in evaluation mode, on the CPU.

    Args:
        config: Path of a config of mmdet, mmseg or mmpretrain.
        checkpoint: Weights, which must fit entirely, by path, URL or ``hf://owner/name/file``;
            None for those of the initialisation.
        cfg_options: Overrides of config keys.

    Returns:
        The model and the config.

    Raises:
        SetupError: The config or the checkpoint is absent, or they do not fit.
    """
    cfg = read_config(config, cfg_options)
    init_default_scope(cfg.get("default_scope", "mmengine"))
    replace_sync_bn(cfg.model)  # a single process has nothing to synchronise
    model: Any = MODELS.build(cfg.model)
    if checkpoint is None:
        with _without_init_log():
            model.init_weights()
    else:
        try:
            _load(model, str(checkpoint))
        except (CheckpointFileError, CheckpointMismatchError) as error:
            raise SetupError(str(error)) from error
    return model.eval(), cfg


@contextmanager
def _without_init_log() -> Iterator[None]:
    """mmengine would say of every parameter how it was initialised, on the console."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel("WARNING")
    try:
        yield
    finally:
        logger.setLevel(level)


def _load(model: Any, checkpoint: str) -> None:
    content = read_checkpoint_from(checkpoint, allowed=runner_checkpoint_globals())
    model.load_state_dict(fitting_weights(model, content, source=checkpoint))
