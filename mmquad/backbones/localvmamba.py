"""LocalVMamba: VMamba with windowed scans, searched directions and channel attention.

Paper: Huang et al., LocalMamba, arXiv:2403.09338. Release: hunto/LocalMamba, commit 75e5d1f
(Apache-2.0). The blocks are those of VMamba's first version; docs/fidelity.md lists what differs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn
from typing_extensions import Unpack

from mmquad.backbones.arguments import BackboneArguments, named_setting
from mmquad.backbones.hierarchical import HierarchicalBackbone
from mmquad.backbones.local_directions import (
    CANDIDATES,
    FIXED_DIRECTIONS,
    LOCALVMAMBA_SEARCHED,
    layer_directions,
)
from mmquad.layers import LocalMapMixer, PatchEmbed, PatchMerging
from mmquad.registry import MODELS
from mmquad.scans import LocalScan

__all__ = ["LOCALVMAMBA_ARCHS", "LocalVMamba", "LocalVMambaArch"]


class LocalVMambaArch(NamedTuple):
    """Size of a LocalVMamba and its directions. Width doubles per stage.

    Attributes:
        dim: Channels C of the first stage.
        depths: Blocks per stage.
        directions: Names of the directions, separated by spaces: one string per layer, or a single
            one for all layers; see :class:`mmquad.scans.LocalScan`.
        ssm_ratio: Inner channels D of a mixer over C.
        d_state: States N per channel.
        search: The network of the direction search, which learns how much each direction counts.
    """

    dim: int
    depths: tuple[int, ...]
    directions: Sequence[str] = FIXED_DIRECTIONS
    ssm_ratio: float = 2
    d_state: int = 16
    search: bool = False


LOCALVMAMBA_ARCHS = {
    "tiny": LocalVMambaArch(96, (2, 2, 9, 2), LOCALVMAMBA_SEARCHED["tiny"]),
    "small": LocalVMambaArch(96, (2, 2, 27, 2), LOCALVMAMBA_SEARCHED["small"]),
    "tiny-unsearched": LocalVMambaArch(96, (2, 2, 9, 2)),
    "small-unsearched": LocalVMambaArch(96, (2, 2, 27, 2)),
    "tiny-search": LocalVMambaArch(32, (2, 2, 9, 2), CANDIDATES, search=True),
    "small-search": LocalVMambaArch(32, (2, 2, 27, 2), CANDIDATES, search=True),
}


@MODELS.register_module()
class LocalVMamba(HierarchicalBackbone):
    """Four stages at strides 4, 8, 16, 32; each layer reads the map in its own four directions.

    Every image size from 1 x 1 up works. Patches round sizes down (an image of 66 rows has 16 of
    them), stages round up.

    Args:
        arch: A name in ``LOCALVMAMBA_ARCHS``, or a mapping with the fields of
            :class:`LocalVMambaArch`.
        directions: Instead of those of the arch, in the same form.
        pad_windows: Fill up windows at the edge of the map, as the release does. False: they are
            smaller, and no position is empty.
        **arguments: Those of every backbone: :class:`mmquad.backbones.BackboneArguments`.

    Example:
        >>> import torch
        >>> from mmquad.backbones import LocalVMamba
        >>> model = LocalVMamba(dict(dim=8, depths=(1, 1, 1, 1)), directions="h v w2 w7").eval()
        >>> [tuple(y.shape) for y in model(torch.randn(1, 3, 64, 96))]
        [(1, 8, 16, 24), (1, 16, 8, 12), (1, 32, 4, 6), (1, 64, 2, 3)]
    """

    def __init__(
        self,
        arch: str | Mapping = "tiny",
        *,
        directions: str | Sequence[str] | None = None,
        pad_windows: bool = True,
        **arguments: Unpack[BackboneArguments],
    ) -> None:
        size = named_setting("arch", arch, LOCALVMAMBA_ARCHS, LocalVMambaArch)
        super().__init__(size.dim, size.depths, **arguments)
        self.arch: LocalVMambaArch = size
        self.directions = layer_directions(directions or size.directions, sum(size.depths))
        self.pad_windows = pad_windows
        self.build()

    def make_stem(self) -> nn.Module:
        # Not covering, as VMamba's first version, which this is but for its mixers.
        return PatchEmbed(self.in_channels, self.dims[0], patch_size=4, norm=True, cover=False)

    def make_downsample(self, stage: int) -> nn.Module:
        return PatchMerging(self.dims[stage - 1], self.dims[stage])

    def make_mixer(self, stage: int, index: int) -> nn.Module:
        dim, arch = self.dims[stage], self.arch
        # Directions are listed layer by layer over all stages.
        names = self.directions[sum(self.depths[:stage]) + index]
        scan = LocalScan(names, self.pad_windows)
        return LocalMapMixer(dim, int(dim * arch.ssm_ratio), arch.d_state, scan, arch.search)

    def settings(self) -> dict[str, Any]:
        """Directions of every layer, and whether windows are padded: no shape shows them."""
        return {
            "directions": [" ".join(names) for names in self.directions],
            "pad_windows": self.pad_windows,
        }
