"""Backbones of stages whose maps halve: what QuadMamba, VMamba and LocalVMamba share."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mmquad.backbones.base import VisionBackbone, init_linear

__all__ = ["HierarchicalBackbone"]


class HierarchicalBackbone(VisionBackbone):
    """A stem, then stages of blocks on channels-last maps, with downsampling between them.

    Args:
        stem: Image ``[B, c, H, W]`` to ``[B, H / 4, W / 4, dims[0]]``.
        block: Makes a block from its stage, its index in the stage and its drop path.
        downsample: Makes the module between two stages from their channels.
        dims: Channels of the stages.
        depths: Blocks per stage.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0.
        out_indices: See :class:`VisionBackbone`.
        frozen_stages: See :class:`VisionBackbone`.
        norm_eval: See :class:`VisionBackbone`.
        with_cp: See :class:`VisionBackbone`.
        init_cfg: See :class:`VisionBackbone`.
    """

    def __init__(
        self,
        *,
        stem: nn.Module,
        block: Callable[[int, int, float], nn.Module],
        downsample: Callable[[int, int], nn.Module],
        dims: Sequence[int],
        depths: Sequence[int],
        drop_path_rate: float,
        out_indices: Sequence[int],
        frozen_stages: int,
        norm_eval: bool,
        with_cp: bool,
        init_cfg: dict | list[dict] | None,
    ) -> None:
        super().__init__(dims, depths, out_indices, frozen_stages, norm_eval, with_cp, init_cfg)
        rates = torch.linspace(0, drop_path_rate, sum(depths), device="cpu")
        drop_paths = iter(rates.tolist())
        self.stem = stem
        self.stages = nn.ModuleList()
        self.downsamples = nn.ModuleList()
        for i in range(self.num_built_stages):
            if i > 0:
                self.downsamples.append(downsample(dims[i - 1], dims[i]))
            blocks = [block(i, j, next(drop_paths)) for j in range(depths[i])]
            self.stages.append(nn.Sequential(*blocks))
            if i in self.out_indices:
                self.add_module(f"norm{i}", nn.LayerNorm(dims[i]))
        self.apply(init_linear)
        self._freeze()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """``[B, in_channels, H, W]`` -> one ``[B, C_i, H_i, W_i]`` per out index."""
        x = self.stem(image)
        outputs = []
        for i, stage in enumerate(self.stages):
            if i > 0:
                x = self.downsamples[i - 1](x)
            for block in stage.children():
                x = self.run_block(block, x)
            if i in self.out_indices:
                normed = getattr(self, f"norm{i}")(x)
                # Necks and CPU RoIAlign expect plain NCHW memory.
                outputs.append(normed.permute(0, 3, 1, 2).contiguous())
        return tuple(outputs)
