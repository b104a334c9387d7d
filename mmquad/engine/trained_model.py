"""A model for inference from a config and a checkpoint, its weights fitting entirely."""

from mmengine.registry import init_default_scope
from torch import nn

from mmquad.checkpoints import extract_state_dict, load_strict, read_checkpoint
from mmquad.checkpoints.loading import check_settings
from mmquad.compat import load_config, runner_checkpoint_globals
from mmquad.registry import MODELS

__all__ = ["load_trained_model"]


def load_trained_model(config: str, checkpoint: str) -> nn.Module:
    """The detector, segmenter or classifier of a config, with a checkpoint's weights, in eval mode.

    Raises:
        CheckpointFileError: The checkpoint cannot be read.
        CheckpointMismatchError: It does not fit the model entirely, or its weights need other
            settings of the backbone.
    """
    cfg = load_config(config)
    init_default_scope(cfg.default_scope)
    # What these would load is replaced below.
    cfg.model.pop("init_cfg", None)
    cfg.model.backbone.pop("init_cfg", None)
    model = MODELS.build(cfg.model)
    loaded = read_checkpoint(checkpoint, allowed=runner_checkpoint_globals())
    settings = getattr(model.backbone, "settings", None)
    if settings is not None:
        check_settings(loaded, settings(), source=checkpoint)
    load_strict(model, extract_state_dict(loaded), source=checkpoint)
    return model.eval()
