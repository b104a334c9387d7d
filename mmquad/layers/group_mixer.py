"""The blocks of GroupMamba (arXiv:2407.13772, section 3): four scans, of a quarter each."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from mmquad.layers.block import MixerBlock
from mmquad.layers.depthwise import DepthwiseConv2d
from mmquad.layers.mixers import ScanMixer
from mmquad.layers.mlp import MLP
from mmquad.layers.norms import LayerNorm
from mmquad.layers.patch import conv_channels_last
from mmquad.layers.weight_decay import exempt_from_decay
from mmquad.scans import LocalScan

__all__ = ["ClassBlock", "ConvMLP", "GroupBlock", "GroupMixer"]

# What each quarter of the channels is read in: rows, columns, and both backwards.
DIRECTIONS = ("h", "v", "h_flip", "v_flip")
_REDUCTION = 16


class GroupMixer(nn.Module):
    """Four mixers, each of a quarter of the channels in a direction of its own, and modulation::

        a = sigmoid(W_2 relu(W_1 mean x + b_1) + b_2)
        y = s [mixer_1(x_1), ..., mixer_4(x_4)] x a

    Args:
        dim: Channels C of the block, a multiple of 4.

    Raises:
        ValueError: They are not.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % len(DIRECTIONS):
            raise ValueError(f"dim must be a multiple of {len(DIRECTIONS)}, got {dim}")
        group = dim // len(DIRECTIONS)
        self.groups = nn.ModuleList(
            ScanMixer(group, group, 1, LocalScan((name,)), gate=True, conv_bias=True)
            for name in DIRECTIONS
        )
        self.reduce = nn.Linear(dim, max(dim // _REDUCTION, 1))
        self.act = nn.ReLU()
        self.expand = nn.Linear(max(dim // _REDUCTION, 1), dim)
        self.scale = nn.Parameter(torch.ones(1))
        exempt_from_decay(self, "scale")

    def forward(self, x: Tensor) -> Tensor:
        """``[B, H, W, C] -> [B, H, W, C]``."""
        affinity = self.expand(self.act(self.reduce(x.mean((1, 2), keepdim=True)))).sigmoid()
        parts = zip(self.groups, x.chunk(len(DIRECTIONS), dim=-1), strict=True)
        mixed = torch.cat([mixer(part) for mixer, part in parts], dim=-1)
        return mixed * self.scale * x * affinity


class ConvMLP(MLP):
    """An MLP with a 3x3 depthwise convolution before its GELU: ``[B, H, W, C] -> [B, H, W, C]``.

    PVT v2's (arXiv:2106.13797).

    Args:
        dim: C.
        hidden_dim: Channels of the convolution.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__(dim, hidden_dim)
        self.conv = DepthwiseConv2d(hidden_dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(conv_channels_last(self.conv, self.fc1(x))))


class GroupBlock(MixerBlock):
    """``x + proj(norm(mixer(norm(x))))``, then ``x + mlp(norm(x))``, on ``[B, H, W, C]``.

    The first two norms are one module, as in the release; so a factor of all that the mixer gives
    acts through the eps of that norm only. Under autocast what is between them is float32: the
    mixer multiplies its input with what it makes of it, and small, uneven products, normed, make
    much of rounding errors.

    Args:
        dim: C.
        mixer: Module ``[B, H, W, C] -> [B, H, W, C]``.
        mlp: The same; None for a block without one.
        drop_path: Probability of dropping each residual branch.
        norm: Makes the norm before the MLP.
        mixer_norm: Makes the norm around the mixer.
    """

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        mlp: nn.Module | None = None,
        drop_path: float = 0.0,
        norm: Callable[[int], nn.Module] = LayerNorm,
        mixer_norm: Callable[[int], nn.Module] = LayerNorm,
    ) -> None:
        super().__init__(dim, mixer, mlp, drop_path, norm)
        self.norm1 = mixer_norm(dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.add_mlp(x + self.drop_path(self.mix(x)))

    def mix(self, x: Tensor) -> Tensor:
        """What the mixer's branch adds."""
        device = x.device.type
        narrow = device != "meta" and torch.is_autocast_enabled(device)
        with torch.autocast(device, enabled=False) if narrow else nullcontext():
            x = x.to(self.proj.weight.dtype) if narrow else x
            return self.proj(self.norm1(self.mixer(self.norm1(x))))


class ClassBlock(GroupBlock):
    """``x + norm(proj(norm(mixer(norm(x)))))``, then ``x + mlp(norm(x))``, on ``[B, 1, 1, C]``.

    What a mean token goes through before it is classified. The arguments are those of
    :class:`GroupBlock`.
    """

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        mlp: nn.Module | None = None,
        drop_path: float = 0.0,
        norm: Callable[[int], nn.Module] = LayerNorm,
        mixer_norm: Callable[[int], nn.Module] = LayerNorm,
    ) -> None:
        super().__init__(dim, mixer, mlp, drop_path, norm, mixer_norm)
        self.branch_norm = norm(dim)

    def mix(self, x: Tensor) -> Tensor:
        return self.branch_norm(super().mix(x))
