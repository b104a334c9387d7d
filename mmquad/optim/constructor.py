"""The learning rate and the weight decay of every single parameter."""

import re
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmquad.backbones import VisionBackbone
from mmquad.layers import exempt_parameters
from mmquad.registry import OPTIM_WRAPPER_CONSTRUCTORS

__all__ = ["StateSpaceOptimWrapperConstructor"]

# What sharding, recomputation and compilation put into the names of parameters.
_WRAPPERS = re.compile(r"_(?:fsdp_wrapped_module|checkpoint_wrapped_module|orig_mod)\.")


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(
    name=["StateSpaceOptimWrapperConstructor", "LayerDecayConstructor"]
)
class StateSpaceOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, which also does what layers and backbones say of their parameters.

    * **Weight decay.** What a layer declares exempt (:func:`mmquad.layers.exempt_from_decay`: A, D,
      the bias of the step sizes, positions, tokens, RMSNorm), or carries mamba_ssm's
      ``_no_weight_decay``, does not decay. A key in ``custom_keys`` that gives a ``decay_mult`` for
      such a parameter wins; one that gives a rate alone leaves it exempt.
    * **Layer-wise rates.** With ``layer_decay_rate`` in ``paramwise_cfg`` the rate of a parameter
      is multiplied by it once for every block between the parameter and the head, by
      :meth:`mmquad.backbones.VisionBackbone.get_layer_depth`: necks and heads keep the full rate.

    All keys of ``paramwise_cfg`` that mmengine knows keep their meaning, and none is needed.

    Args:
        optim_wrapper_cfg: See mmengine.
        paramwise_cfg: mmengine's, and ``layer_decay_rate``, in (0, 1].

    Raises:
        ValueError: ``layer_decay_rate`` is out of range, or there is no learning rate to scale, or
            (when called) no backbone of this package to ask for depths.

    Example, in a config::

        optim_wrapper = dict(
            constructor="mmquad.StateSpaceOptimWrapperConstructor",
            optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05),
            paramwise_cfg=dict(norm_decay_mult=0.0, layer_decay_rate=0.8),  # both optional
        )
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        # With an empty one mmengine would not look at single parameters.
        super().__init__(optim_wrapper_cfg, paramwise_cfg or {"custom_keys": {}})
        self.layer_decay_rate = self.paramwise_cfg.get("layer_decay_rate", 1.0)
        if not 0 < self.layer_decay_rate <= 1:
            raise ValueError(
                "paramwise_cfg.layer_decay_rate must be in (0, 1], 1 for one rate everywhere, got "
                f"{self.layer_decay_rate}"
            )
        if self.layer_decay_rate != 1 and self.base_lr is None:
            raise ValueError("layer_decay_rate needs the rate that it scales: set optimizer.lr")

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = "",
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Add the groups of ``module``; with those of the whole model, finish their settings."""
        super().add_params(params, module, prefix, is_dcn_module)
        if prefix:
            return
        self._exempt(params, module)
        if self.layer_decay_rate != 1:
            self._scale(params, module)

    @staticmethod
    def _exempt(params: list[dict], model: nn.Module) -> None:
        exempt = set(exempt_parameters(model).values())
        # A matching key of custom_keys leaves its fields in the group.
        groups = [g for g in params if g["params"][0] in exempt and "decay_mult" not in g]
        for group in groups:
            group["weight_decay"] = 0.0
        print_log(f"{len(groups)} parameters do not decay because their layers say so.", "current")

    def _scale(self, params: list[dict], model: nn.Module) -> None:
        scales = layer_scales(model, self.layer_decay_rate)
        base_lr: Any = self.base_lr
        for group in params:
            group["lr"] = group.get("lr", base_lr) * scales[group["params"][0]]


def layer_scales(model: nn.Module, rate: float) -> dict[nn.Parameter, float]:
    """``rate`` to the power of the blocks between each parameter and the head.

    Raises:
        ValueError: The model has no backbone of this package.
    """
    backbones = {
        _WRAPPERS.sub("", f"{name}." if name else ""): module
        for name, module in model.named_modules()
        if isinstance(module, VisionBackbone)
    }
    if not backbones:
        raise ValueError(
            "layer_decay_rate needs a backbone of mmquad, which knows how deep its parameters are, "
            f"got none in {type(model).__name__}: leave layer_decay_rate out of paramwise_cfg"
        )
    scales = {}
    for wrapped_name, parameter in model.named_parameters():
        name = _WRAPPERS.sub("", wrapped_name)
        scales[parameter] = 1.0
        for prefix, backbone in backbones.items():
            if name.startswith(prefix):
                depth, depths = backbone.get_layer_depth(name, prefix)
                scales[parameter] = rate ** (depths - 1 - depth)
    return scales
