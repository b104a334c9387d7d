"""GroupMamba: scans of groups of channels, modulated.

Paper: Shaker et al., CVPR 2025, arXiv:2407.13772. Release: Amshaker/GroupMamba, commit c1800ed
(MIT), which has classifiers only.
"""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from torch import Tensor, nn
from typing_extensions import Unpack

from mmquad.backbones.arguments import BackboneArguments, named_setting
from mmquad.backbones.hierarchical import HierarchicalBackbone
from mmquad.layers import (
    MLP,
    ClassBlock,
    ConvDownsample,
    ConvMLP,
    DeepConvStem,
    GroupBlock,
    GroupMixer,
    LayerNorm,
)
from mmquad.registry import MODELS

__all__ = ["GROUPMAMBA_ARCHS", "GroupMamba", "GroupMambaArch"]


class GroupMambaArch(NamedTuple):
    """Size of a GroupMamba.

    Attributes:
        dims: Channels C of every stage, multiples of 4.
        stem_dim: Channels inside the stem.
        depths: Blocks per stage.
        mlp_ratios: Hidden width of the MLP over C, per stage.
    """

    dims: tuple[int, ...]
    stem_dim: int
    depths: tuple[int, ...]
    mlp_ratios: tuple[int, ...] = (8, 8, 4, 4)


GROUPMAMBA_ARCHS = {
    "tiny": GroupMambaArch((64, 128, 348, 448), 32, (3, 4, 9, 3)),
    "small": GroupMambaArch((64, 128, 348, 512), 64, (3, 4, 16, 3)),
    "base": GroupMambaArch((96, 192, 424, 512), 64, (3, 6, 21, 3)),
}


@MODELS.register_module()
class GroupMamba(HierarchicalBackbone):
    """Four stages at strides 4, 8, 16, 32: in every block a scan of each quarter of the channels.

    Every image size from 1 x 1 up works; sizes round up. A stage ends with a norm, whose map the
    next stage reads and detectors too; the last one's is, in the release, that of the class token.

    Args:
        arch: A name in ``GROUPMAMBA_ARCHS``, or a mapping with the fields of
            :class:`GroupMambaArch`.
        out_type: ``"map"``: maps. ``"class_token"``: in place of the last stage's map ``[B, C]``,
            the mean of its tokens after one more block, for classifiers. Weights with that block
            load into a model without.
        **arguments: Those of every backbone: :class:`mmquad.backbones.BackboneArguments`.

    Raises:
        ValueError: There is not one width and one MLP ratio for each stage, or two for one width;
            ``out_type`` is unknown, or asks for the class token while ``out_indices`` leaves the
            last stage out.

    Example:
        >>> import torch
        >>> from mmquad.backbones import GroupMamba
        >>> arch = dict(dims=(8, 16, 20, 24), stem_dim=4, depths=(1, 1, 1, 1))
        >>> model = GroupMamba(arch).eval()
        >>> [tuple(y.shape) for y in model(torch.randn(1, 3, 65, 97))]
        [(1, 8, 17, 25), (1, 16, 9, 13), (1, 20, 5, 7), (1, 24, 3, 4)]
    """

    def __init__(
        self,
        arch: str | Mapping = "tiny",
        *,
        out_type: Literal["map", "class_token"] = "map",
        **arguments: Unpack[BackboneArguments],
    ) -> None:
        size = named_setting("arch", arch, GROUPMAMBA_ARCHS, GroupMambaArch)
        if not len(size.mlp_ratios) == len(size.dims) == len(size.depths):
            raise ValueError(
                f"dims and mlp_ratios must have a value for each of the {len(size.depths)} stages, "
                f"got {tuple(size.dims)} and {tuple(size.mlp_ratios)}"
            )
        ratios = dict(zip(size.dims, size.mlp_ratios, strict=True))
        if [ratios[dim] for dim in size.dims] != list(size.mlp_ratios):
            raise ValueError(
                "stages of one width must have one of mlp_ratios, got "
                f"{tuple(size.mlp_ratios)} for widths {tuple(size.dims)}"
            )
        super().__init__(size.dims, size.depths, **arguments)
        self.arch: GroupMambaArch = size
        self.hidden_dims = {dim: dim * ratio for dim, ratio in ratios.items()}
        if out_type not in ("map", "class_token"):
            raise ValueError(f"out_type must be 'map' or 'class_token', got {out_type!r}")
        if out_type == "class_token" and self.num_built_stages < self.num_stages:
            raise ValueError(
                f"out_type='class_token' needs the last stage, {self.num_stages - 1}, in "
                f"out_indices, got {self.out_indices}"
            )
        self.out_type = out_type
        self.build()

    def build_rest(self) -> None:
        """Make the norms that only the next stage reads, and the class block."""
        for i in range(self.num_built_stages):
            if i not in self.out_indices:
                self.add_module(f"norm{i}", self.make_output_norm(i))
        self.class_block: nn.Module | None = None
        if self.out_type == "class_token":
            dim = self.dims[-1]
            mixer, mlp = GroupMixer(dim), MLP(dim, self.arch.mlp_ratios[-1] * dim)
            norms = self.make_norm, self.make_mixer_norm
            self.class_block = ClassBlock(dim, mixer, mlp, 0.0, *norms)

    def make_stem(self) -> nn.Module:
        return DeepConvStem(self.in_channels, self.arch.stem_dim, self.dims[0])

    def make_downsample(self, stage: int) -> nn.Module:
        return ConvDownsample(self.dims[stage - 1], self.dims[stage])

    def make_norm(self, dim: int) -> nn.Module:
        return LayerNorm(dim, eps=1e-6)

    def make_mixer_norm(self, dim: int) -> nn.Module:
        """The norm before and after the mixer of a block; of another eps than the other norms."""
        return LayerNorm(dim)

    def make_block(self, stage: int, index: int, drop_path: float) -> nn.Module:
        dim = self.dims[stage]
        mixer, mlp = self.make_mixer(stage, index), self.make_mlp(dim)
        return GroupBlock(dim, mixer, mlp, drop_path, self.make_norm, self.make_mixer_norm)

    def make_mlp(self, dim: int) -> nn.Module:
        return ConvMLP(dim, self.hidden_dims[dim])

    def make_mixer(self, stage: int, index: int) -> nn.Module:
        del index
        return GroupMixer(self.dims[stage])

    def init_module(self, module: nn.Module) -> None:
        super().init_module(module)
        if isinstance(module, nn.Conv2d):  # the release's: by what leaves a filter
            fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def run_stage(self, stage: int, x: Tensor) -> Tensor:
        x = super().run_stage(stage, x)
        return x if stage == self.num_stages - 1 else getattr(self, f"norm{stage}")(x)

    def to_output(self, stage: int, x: Tensor) -> Tensor:
        if stage < self.num_stages - 1:  # normed already
            return self.to_map(x)
        if self.class_block is None:
            return super().to_output(stage, x)
        token = self.class_block(x.mean((1, 2), keepdim=True))
        return getattr(self, f"norm{stage}")(token).flatten(1)

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """As of every backbone; the class block has the depth of the norm after it."""
        if param_name.startswith(f"{prefix}class_block."):
            param_name = f"{prefix}norm{self.num_stages - 1}.weight"
        return super().get_layer_depth(param_name, prefix)

    def stage_parts(self, stage: int) -> list[nn.Module]:
        parts = super().stage_parts(stage)
        last = stage == self.num_stages - 1
        return [*parts, self.class_block] if last and self.class_block is not None else parts

    def tolerated_entries(self) -> dict[str, list[str]]:
        tolerated = super().tolerated_entries()
        # All norms before the last one's are part of the network.
        built = range(self.num_built_stages)
        may_ignore = [n for n in tolerated["may_ignore"] if n not in {f"norm{i}." for i in built}]
        if self.class_block is None:
            may_ignore.append("class_block.")
        return {"may_miss": [], "may_ignore": may_ignore}
