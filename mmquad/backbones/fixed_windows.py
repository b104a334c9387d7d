"""The ablation of QuadMamba's Table 4: fixed windows, or none, in place of the quadtree."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from typing_extensions import Unpack

from mmquad.backbones.arguments import BackboneArguments
from mmquad.backbones.quadmamba import QuadMamba
from mmquad.layers import ScanMixer
from mmquad.registry import MODELS
from mmquad.scans import LocalScan

__all__ = ["FixedWindowQuadMamba"]


@MODELS.register_module()
class FixedWindowQuadMamba(QuadMamba):
    """QuadMamba whose quadtree stages read fixed windows; nothing is learned or shifted.

    Windows are read row by row and visited in raster order, forwards and backwards: two directions,
    as a quadtree has, so that all parameters but those of the score predictors are the same.

    Args:
        arch: See :class:`QuadMamba`.
        window: Tokens along a side of a window; 0: no windows, the rows of the whole map.
        **arguments: Those of every backbone: :class:`mmquad.backbones.BackboneArguments`.

    Raises:
        ValueError: ``window`` is negative.

    Example:
        >>> import torch
        >>> from mmquad.backbones import FixedWindowQuadMamba
        >>> model = FixedWindowQuadMamba("lite", window=14, out_indices=0).eval()
        >>> [tuple(y.shape) for y in model(torch.randn(1, 3, 65, 97))]
        [(1, 48, 17, 25)]
    """

    def __init__(
        self,
        arch: str | Mapping = "tiny",
        *,
        window: int,
        **arguments: Unpack[BackboneArguments],
    ) -> None:
        if window < 0:
            raise ValueError(f"window must be a side of at least 0 tokens, got {window}")
        if "quadtree" in arguments:
            raise TypeError("FixedWindowQuadMamba takes no quadtree: its windows are fixed")
        self.window = window  # read by make_mixer, which the constructor above calls
        super().__init__(arch, **arguments)

    def make_mixer(self, stage: int, index: int) -> nn.Module:
        dim, arch = self.dims[stage], self.arch
        if stage not in arch.quad_stages:
            return super().make_mixer(stage, index)
        name = f"w{self.window}" if self.window else "h"
        scan = LocalScan((name, f"{name}_flip"), padded=False)
        inner_dim = int(dim * arch.ssm_ratio)
        return ScanMixer(dim, inner_dim, arch.d_state, scan, conv_bias=arch.conv_bias)

    def settings(self) -> dict[str, Any]:
        """The window."""
        return {"window": self.window}
