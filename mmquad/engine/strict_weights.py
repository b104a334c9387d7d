"""Refuses to test a model with weights that do not fit it entirely."""

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from mmquad.checkpoints.loading import check_fit, check_settings
from mmquad.registry import HOOKS

__all__ = ["StrictWeightsHook"]


@HOOKS.register_module()
class StrictWeightsHook(Hook):
    """Raise where mmengine only logs: missing, unexpected and misshapen entries of a checkpoint.

    A test loads all weights of the model, so what the checkpoint lacks would be random.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the checkpoint with the model before its weights are copied."""
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        source = str(runner._load_from)
        weights = checkpoint.get("state_dict", checkpoint)
        check_fit(model, weights, source=source)
        backbone = getattr(model, "backbone", None)
        if backbone is not None and hasattr(backbone, "settings"):
            check_settings(checkpoint, backbone.settings(), source=source)
