"""Learning rates that fall from the head to the first layers (layer-wise decay, BEiT, ViTDet)."""

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mmquad.backbones import VisionBackbone
from mmquad.registry import OPTIM_WRAPPER_CONSTRUCTORS

__all__ = ["LayerDecayConstructor", "parameter_depths"]


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor; the rate of a layer is that of the next one times a factor.

    ``paramwise_cfg`` takes ``layer_decay_rate`` besides mmengine's keys, which all keep their
    meaning. It works for every backbone of this package in every model: unlike the constructors of
    mmdet, mmseg and mmpretrain it does not go by the names that other backbones have.
    """

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = "",
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Add the groups of ``module``; with those of the whole model, scale their rates."""
        super().add_params(params, module, prefix, is_dcn_module)
        if prefix:
            return
        rate = self.paramwise_cfg.get("layer_decay_rate", 1.0)
        depths = parameter_depths(module)
        deepest = max(depths.values())
        by_parameter = {p: depths[name] for name, p in module.named_parameters()}
        for group in params:
            (parameter,) = group["params"]
            scale = rate ** (deepest - by_parameter[parameter])
            group["lr"] = group.get("lr", self.base_lr) * scale


def parameter_depths(model: nn.Module) -> dict[str, int]:
    """How deep in the network every parameter is.

    What comes before the first block of the backbone has depth 0, the blocks 1, 2, ..., n over all
    stages; a downsampling that of the block after it, an output norm that of the block before it;
    necks and heads n + 1.

    Args:
        model: A model with one backbone of this package, or such a backbone.

    Raises:
        ValueError: It has none, or several.
    """
    found = [module for module in model.modules() if isinstance(module, VisionBackbone)]
    if len(found) != 1:
        raise ValueError(
            f"layer-wise decay needs a model with one backbone of mmquad, got {len(found)} in "
            f"{type(model).__name__}"
        )
    backbone = found[0]
    depth_of: dict[nn.Parameter, int] = dict.fromkeys(backbone.parameters(), 0)
    depth = 0
    for i, stage in enumerate(backbone.stages):
        for downsample in backbone.downsamples[max(i - 1, 0) : i]:
            depth_of |= dict.fromkeys(downsample.parameters(), depth + 1)
        # A stage of an isotropic backbone is a block.
        for block in stage if isinstance(stage, nn.Sequential) else [stage]:
            depth += 1
            depth_of |= dict.fromkeys(block.parameters(), depth)
        if i in backbone.out_indices:
            depth_of |= dict.fromkeys(getattr(backbone, f"norm{i}").parameters(), depth)
    return {n: depth_of.get(p, depth + 1) for n, p in model.named_parameters()}
