"""Backbones of stages whose maps halve."""

from collections.abc import Sequence

from torch import Tensor, nn
from typing_extensions import Unpack

from mmquad.backbones.arguments import BackboneArguments
from mmquad.backbones.base import VisionBackbone
from mmquad.layers import MixerBlock

__all__ = ["HierarchicalBackbone"]


class HierarchicalBackbone(VisionBackbone):
    """A stem, then stages of blocks on channels-last maps, with downsampling between them.

    A family has :meth:`make_stem`, :meth:`make_downsample` and :meth:`make_mixer`.

    Args:
        dims: Channels of every stage; or of the first, where they double.
        depths: Blocks per stage.
        **arguments: See :class:`BackboneArguments`.
    """

    def __init__(
        self,
        dims: int | Sequence[int],
        depths: Sequence[int],
        **arguments: Unpack[BackboneArguments],
    ) -> None:
        if isinstance(dims, int):
            dims = [dims * 2**i for i in range(len(depths))]
        super().__init__(dims, depths, **arguments)

    def make_stage(self, stage: int, drop_paths: Sequence[float]) -> nn.Module:
        blocks = (self.make_block(stage, i, rate) for i, rate in enumerate(drop_paths))
        return nn.Sequential(*blocks)

    def make_block(self, stage: int, index: int, drop_path: float) -> nn.Module:
        """Block ``index`` of ``stage``: a mixer, and an MLP where the family has one."""
        dim = self.dims[stage]
        mixer, mlp = self.make_mixer(stage, index), self.make_mlp(dim)
        return MixerBlock(dim, mixer, mlp, drop_path, self.make_norm)

    def make_mixer(self, stage: int, index: int) -> nn.Module:
        """What mixes tokens in block ``index`` of ``stage``: ``[B, H, W, C] -> [B, H, W, C]``."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """``[B, in_channels, H, W]`` -> one ``[B, C_i, H_i, W_i]`` per out index."""
        x = self.stem(image)  # [B, H, W, C] from here on
        outputs = []
        for i in range(len(self.stages)):
            if i > 0:
                x = self.downsamples[i - 1](x)
            x = self.run_stage(i, x)
            if i in self.out_indices:
                outputs.append(self.to_output(i, x))
        return tuple(outputs)

    def run_stage(self, stage: int, x: Tensor) -> Tensor:
        """The blocks of ``stage``, ``[B, H, W, C] -> [B, H, W, C]``."""
        # Block by block, not stage by stage, so that ``with_cp`` keeps one map for each.
        for block in self.stages[stage].children():
            x = self.run_block(block, x)
        return x

    def to_output(self, stage: int, x: Tensor) -> Tensor:
        """What the backbone returns of ``stage``: ``[B, C, H, W]``, normed."""
        return self.to_map(getattr(self, f"norm{stage}")(x))

    def to_map(self, x: Tensor) -> Tensor:
        """``[B, H, W, C] -> [B, C, H, W]``."""
        # Necks and CPU RoIAlign expect plain NCHW memory.
        return x.permute(0, 3, 1, 2).contiguous()
