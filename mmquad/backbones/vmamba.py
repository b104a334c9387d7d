"""VMamba: visual state space model.

Paper: Liu et al., NeurIPS 2024, arXiv:2401.10166. Release: MzeroMiko/VMamba, commit 2ed52ea (MIT).
The ``vanilla`` archs are its first version (``v0``), which most papers compare with; the others
are its current one (``v05_noz``). ``s2l5`` says: ssm_ratio 2, 5 blocks in the third stage.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mmquad.backbones.base import named_setting
from mmquad.backbones.hierarchical import HierarchicalBackbone
from mmquad.layers import (
    ConvDownsample,
    ConvStem,
    MixerBlock,
    PatchEmbed,
    PatchMerging,
    ScanMixer,
)
from mmquad.registry import MODELS
from mmquad.scans import CrossScan

__all__ = ["VMAMBA_ARCHS", "VMamba", "VMambaArch"]


class VMambaArch(NamedTuple):
    """Size of a VMamba. Width doubles per stage.

    Attributes:
        dim: Channels C of the first stage.
        depths: Blocks per stage.
        ssm_ratio: Inner channels D of a mixer over C.
        d_state: States N per channel.
        mlp_ratio: Hidden width of the MLP over C; 0 for blocks without MLP.
        gate: Gated mixers.
        overlap: Overlapping 3 x 3 convolutions as stem and between stages. Without: 4 x 4 patches
            and Swin's patch merging.
        conv_bias: The depthwise convolutions have a bias.
    """

    dim: int
    depths: tuple[int, ...]
    ssm_ratio: float
    d_state: int = 1
    mlp_ratio: float = 4.0
    gate: bool = False
    overlap: bool = True
    conv_bias: bool = False


def _vanilla(dim: int, depths: tuple[int, ...]) -> VMambaArch:
    return VMambaArch(dim, depths, 2, 16, mlp_ratio=0, gate=True, overlap=False, conv_bias=True)


VMAMBA_ARCHS = {
    "vanilla-tiny": _vanilla(96, (2, 2, 9, 2)),
    "vanilla-small": _vanilla(96, (2, 2, 27, 2)),
    "vanilla-base": _vanilla(128, (2, 2, 27, 2)),
    "tiny-s2l5": VMambaArch(96, (2, 2, 5, 2), ssm_ratio=2),
    "small-s2l15": VMambaArch(96, (2, 2, 15, 2), ssm_ratio=2),
    "base-s2l15": VMambaArch(128, (2, 2, 15, 2), ssm_ratio=2),
    "tiny-s1l8": VMambaArch(96, (2, 2, 8, 2), ssm_ratio=1),
    "small-s1l20": VMambaArch(96, (2, 2, 20, 2), ssm_ratio=1),
    "base-s1l20": VMambaArch(128, (2, 2, 20, 2), ssm_ratio=1),
}


@MODELS.register_module()
class VMamba(HierarchicalBackbone):
    """Four stages at strides 4, 8, 16, 32, all of cross scans.

    Every image size from 1 x 1 up works. The stem of the current version rounds sizes up, the
    patches of the vanilla one down (an image of 66 rows has 16 of them); stages round up.

    Args:
        arch: A name in ``VMAMBA_ARCHS``, or a mapping with the fields of :class:`VMambaArch`.
        in_channels: Channels of the image.
        out_indices: See :class:`VisionBackbone`.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0.
        frozen_stages: See :class:`VisionBackbone`.
        norm_eval: See :class:`VisionBackbone`.
        with_cp: See :class:`VisionBackbone`.
        init_cfg: See :class:`VisionBackbone`.

    Example:
        >>> import torch
        >>> from mmquad.backbones import VMamba
        >>> model = VMamba(dict(dim=8, depths=(1, 1, 1, 1), ssm_ratio=1)).eval()
        >>> [tuple(y.shape) for y in model(torch.randn(1, 3, 65, 97))]
        [(1, 8, 17, 25), (1, 16, 9, 13), (1, 32, 5, 7), (1, 64, 3, 4)]
    """

    def __init__(
        self,
        arch: str | Mapping = "tiny-s1l8",
        *,
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        size = named_setting("arch", arch, VMAMBA_ARCHS, VMambaArch)
        dims = [size.dim * 2**i for i in range(len(size.depths))]

        def block(i: int, _: int, drop_path: float) -> MixerBlock:
            mixer = ScanMixer(
                dims[i],
                int(dims[i] * size.ssm_ratio),
                size.d_state,
                -(-dims[i] // 16),
                CrossScan(),
                gate=size.gate,
                conv_bias=size.conv_bias,
            )
            return MixerBlock(dims[i], mixer, size.mlp_ratio, drop_path)

        super().__init__(
            stem=ConvStem(in_channels, size.dim)
            if size.overlap
            else PatchEmbed(in_channels, size.dim, patch_size=4, norm=True, cover=False),
            block=block,
            downsample=ConvDownsample if size.overlap else PatchMerging,
            dims=dims,
            depths=size.depths,
            drop_path_rate=drop_path_rate,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        self.arch = size
