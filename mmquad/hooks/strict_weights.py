"""Refuses weights that do not fit, where mmengine only logs."""

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from mmquad.backbones import VisionBackbone
from mmquad.checkpoints.loading import (
    CheckpointMismatchError,
    check_fit,
    check_settings,
    find_state_dict,
    fitting_weights,
    take_prefix,
    unused_parts,
)
from mmquad.checks.policy import is_on, report
from mmquad.registry import HOOKS

__all__ = ["StrictWeightsHook"]


@HOOKS.register_module()
class StrictWeightsHook(Hook):
    """Raise where mmengine only logs: missing, unexpected and misshapen entries of a checkpoint.

    A test or a resumed training takes everything from the checkpoint, so what it lacks would be
    random, or start anew. Parts that the model was built without (``auxiliary_head=None``) are
    left out, with a warning. Weights are found wherever :func:`find_state_dict` finds them.

    Args:
        backbone_only: Only a backbone of this package has to fit: for a training that begins with
            ``load_from``, whose heads may be for other classes.
    """

    # Before EMAHook, which copies the weights that this finds.
    priority = "VERY_HIGH"

    def __init__(self, backbone_only: bool = False) -> None:
        self.backbone_only = backbone_only

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the checkpoint with the model before its weights are copied."""
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        source = str(runner._load_from)
        if not is_on("weights"):
            return
        if not isinstance(checkpoint, Mapping):
            raise CheckpointMismatchError(
                f"{source} holds a {type(checkpoint).__name__}; expected a dictionary of weights."
            )
        if runner._resume:
            _check_state(checkpoint, source)
        checkpoint["state_dict"] = find_state_dict(checkpoint)
        if self.backbone_only:
            _check_backbone(getattr(model, "backbone", None), checkpoint, source)
            return
        unused = unused_parts(model, checkpoint["state_dict"])
        checkpoint["state_dict"] = fitting_weights(model, checkpoint, source=source)
        if unused:
            report(
                "unused-weights",
                f"{source} has weights of {', '.join(part[:-1] for part in unused)}, which this "
                "model was built without; they are not used.\nWhat to do: nothing if the config "
                "leaves these parts out on purpose, such as model.auxiliary_head=None.",
                runner.logger.warning,
            )


def _check_backbone(backbone: Any, checkpoint: dict, source: str) -> None:
    if isinstance(backbone, VisionBackbone):
        weights = take_prefix(checkpoint["state_dict"], "backbone")
        check_fit(backbone, weights, source=source, **backbone.tolerated_entries())
        check_settings(checkpoint, backbone.settings(), source=source)


def _check_state(checkpoint: dict, source: str) -> None:
    """mmengine would begin with a new optimizer and the first learning rates, in silence."""
    meta = checkpoint.get("meta")
    if "optimizer" not in checkpoint or not isinstance(meta, Mapping) or "iter" not in meta:
        raise CheckpointMismatchError(
            f"Cannot resume: {source} holds weights without the state of a training (optimizer, "
            "iteration), as best_*.pth and converted files do.\n"
            "What to do: resume from an epoch_*.pth or iter_*.pth (--resume alone takes the "
            f"latest), or start a new training from the weights: --cfg-options load_from={source}"
        )
