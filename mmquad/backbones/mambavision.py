"""MambaVision: a hybrid of convolutions, half-channel scans and attention.

Paper: Hatamizadeh and Kautz, CVPR 2025, arXiv:2407.08083. Release: NVlabs/MambaVision, commit
7860a50, whose code is under a non-commercial licence: this is an implementation of its own, of the
paper and of what the release's weights mean. The weights are under CC-BY-NC-SA-4.0 and the user's
own to fetch.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Unpack

from mmquad.backbones.arguments import BackboneArguments, named_setting
from mmquad.backbones.hierarchical import HierarchicalBackbone
from mmquad.layers import (
    MLP,
    BatchNormStem,
    ConvBlock,
    ConvDownsample,
    HalfScanMixer,
    MapBatchNorm,
    MixerBlock,
    SelectiveSSM,
    SelfAttention,
)
from mmquad.ops.sizes import surely
from mmquad.registry import MODELS

__all__ = ["MAMBAVISION_ARCHS", "MambaVision", "MambaVisionArch"]

CONV_STAGES = 2


class MambaVisionArch(NamedTuple):
    """Size of a MambaVision. Width doubles per stage; the first two stages are convolutions.

    Attributes:
        dim: Channels C of the first stage.
        stem_dim: Channels inside the stem.
        depths: Blocks per stage. The first half of a stage with scans has mixers, an odd block
            included, the second half attention.
        num_heads: Heads of the attention in each stage after the first two.
        window: Side of the windows in each stage after the first two; None: the whole map.
        layer_scale: Initial factor of the branches; None: there are no factors.
        d_state: States N per channel.
        mlp_ratio: Hidden width of the MLP over C.
    """

    dim: int
    stem_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window: tuple[int | None, ...] = (14, 7)
    layer_scale: float | None = None
    d_state: int = 8
    mlp_ratio: float = 4.0


def _scaled(dim: int, depths: tuple[int, ...], heads: int, *window: int) -> MambaVisionArch:
    return MambaVisionArch(dim, 64, depths, (heads, 2 * heads), window, layer_scale=1e-5)


MAMBAVISION_ARCHS = {
    "tiny": MambaVisionArch(80, 32, (1, 3, 8, 4), (8, 16)),
    "tiny2": MambaVisionArch(80, 32, (1, 3, 11, 4), (8, 16)),
    "small": MambaVisionArch(96, 64, (3, 3, 7, 5), (8, 16)),
    "base": _scaled(128, (3, 3, 10, 5), 8, 14, 7),
    "large": _scaled(196, (3, 3, 10, 5), 16, 14, 7),
    "large2": _scaled(196, (3, 3, 12, 5), 16, 14, 7),
    "large3": _scaled(256, (3, 3, 20, 10), 16, 16, 8),  # of the weights for 256 x 256
}


@MODELS.register_module()
class MambaVision(HierarchicalBackbone):
    """Four stages at strides 4, 8, 16, 32; every image size from 1 x 1 up works, sizes round up.

    The last two stages cut maps into square windows, each of which is a sequence of its own. As in
    the release, maps are padded with zeros at the bottom and the right to whole windows before the
    first block of a stage; what is padded is read like any token, and cut off after the last one.

    So results depend on ``window``, which no weights show: (14, 7) for images of 224 x 224, and for
    most classifiers; the release's detectors have (112, 56), its segmentors (64, 32).

    Args:
        arch: A name in ``MAMBAVISION_ARCHS``, or a mapping with the fields of
            :class:`MambaVisionArch`.
        window: In place of the arch's.
        output_norm: ``"layer"``: a LayerNorm of each output, as detectors and segmentors have it;
            ``"batch"``: a batch norm, as classifiers have it of their only one.
        **arguments: Those of every backbone: :class:`mmquad.backbones.BackboneArguments`.

    Raises:
        ValueError: Heads or windows are not given for each of the last stages; a norm is unknown.

    Example:
        >>> import torch
        >>> from mmquad.backbones import MambaVision
        >>> arch = dict(dim=8, stem_dim=4, depths=(1, 1, 2, 2), num_heads=(2, 4), window=(4, 2))
        >>> model = MambaVision(arch).eval()
        >>> [tuple(y.shape) for y in model(torch.randn(1, 3, 65, 97))]
        [(1, 8, 17, 25), (1, 16, 9, 13), (1, 32, 5, 7), (1, 64, 3, 4)]
    """

    def __init__(
        self,
        arch: str | Mapping = "tiny",
        *,
        window: Sequence[int | None] | None = None,
        output_norm: Literal["layer", "batch"] = "layer",
        **arguments: Unpack[BackboneArguments],
    ) -> None:
        size: MambaVisionArch = named_setting("arch", arch, MAMBAVISION_ARCHS, MambaVisionArch)
        if window is not None:
            size = size._replace(window=tuple(window))
        if output_norm not in ("layer", "batch"):
            raise ValueError(f"output_norm must be 'layer' or 'batch', got {output_norm!r}")
        scanning = max(0, len(size.depths) - CONV_STAGES)
        for name, values in (("num_heads", size.num_heads), ("window", size.window)):
            if len(values) != scanning:
                raise ValueError(
                    f"{name} must have a value for each of the {scanning} stages after the first "
                    f"{CONV_STAGES}, got {tuple(values)}"
                )
        super().__init__(size.dim, size.depths, **arguments)
        self.arch, self.output_norm = size, output_norm
        self.build()

    def settings(self) -> dict[str, Any]:
        # Windows are meant to change between pre-training and fine-tuning, heads are not.
        return {"num_heads": list(self.arch.num_heads)}

    def make_stem(self) -> nn.Module:
        return BatchNormStem(self.in_channels, self.arch.stem_dim, self.dims[0], eps=1e-4)

    def make_downsample(self, stage: int) -> nn.Module:
        return ConvDownsample(self.dims[stage - 1], self.dims[stage], bare=True)

    def make_mlp(self, dim: int) -> nn.Module:
        return MLP(dim, int(dim * self.arch.mlp_ratio))

    def make_block(self, stage: int, index: int, drop_path: float) -> nn.Module:
        dim = self.dims[stage]
        if stage < CONV_STAGES:
            return ConvBlock(dim, drop_path)
        mixer, mlp = self.make_mixer(stage, index), self.make_mlp(dim)
        return MixerBlock(dim, mixer, mlp, drop_path, self.make_norm, self.arch.layer_scale)

    def make_mixer(self, stage: int, index: int) -> nn.Module:
        mixers = -(-self.depths[stage] // 2)
        if index < mixers:
            return HalfScanMixer(self.dims[stage], self.arch.d_state)
        return SelfAttention(self.dims[stage], self.arch.num_heads[stage - CONV_STAGES])

    def make_output_norm(self, stage: int) -> nn.Module:
        if self.output_norm == "batch":
            return MapBatchNorm(self.dims[stage])
        return super().make_output_norm(stage)

    def init_module(self, module: nn.Module) -> None:
        super().init_module(module)
        if isinstance(module, SelectiveSSM):
            # The release's general initialisation comes after Mamba's: steps begin at log 2.
            nn.init.trunc_normal_(module.x_proj, std=0.02)
            nn.init.trunc_normal_(module.dt_proj, std=0.02)
            nn.init.zeros_(module.dt_bias)

    def run_stage(self, stage: int, x: Tensor) -> Tensor:
        if stage < CONV_STAGES:
            return super().run_stage(stage, x)
        batch, height, width, channels = x.shape
        side = self.arch.window[stage - CONV_STAGES]
        if side is None:
            windows = super().run_stage(stage, x.flatten(1, 2))
            return windows.unflatten(1, (height, width))
        rows, columns = -(-height // side), -(-width // side)  # of windows
        below, right = rows * side - height, columns * side - width
        whole = surely(below + right == 0)
        if not whole:
            x = F.pad(x, (0, 0, 0, right, 0, below))
        # [B, H, W, C] -> [B rows columns, side^2, C], and back
        grid = x.view(batch, rows, side, columns, side, channels).transpose(2, 3)
        # Copies that ask nothing of sizes: else there would be a graph for windows that are alone.
        windows = grid.clone(memory_format=torch.contiguous_format)
        windows = super().run_stage(stage, windows.view(-1, side * side, channels))
        grid = windows.view(batch, rows, columns, side, side, channels).transpose(2, 3)
        grid = grid.clone(memory_format=torch.contiguous_format)
        x = grid.view(batch, rows * side, columns * side, channels)
        return x if whole else F.pad(x, (0, 0, 0, -right, 0, -below))

    @classmethod
    def arguments_told_by(cls, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """Which kind of norm the outputs have."""
        is_batch = any(re.match(r"norm\d+\.running_mean", name) for name in weights)
        return {"output_norm": "batch" if is_batch else "layer"}

    def adapt_pretrained(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """For outputs with LayerNorms, these, new, in place of the batch norm of a classifier."""
        adapted, last = dict(state_dict), f"norm{self.num_stages - 1}"
        if self.output_norm == "batch" or f"{last}.running_mean" not in adapted:
            return adapted
        adapted = {k: v for k, v in adapted.items() if not k.startswith(f"{last}.")}
        if self.num_stages - 1 in self.out_indices:
            fresh = self.get_submodule(last).state_dict()
            adapted |= {f"{last}.{name}": value for name, value in fresh.items()}
        return adapted
