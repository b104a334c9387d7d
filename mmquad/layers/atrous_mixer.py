"""The blocks of EfficientVMamba (arXiv:2403.09977, section 4): atrous scans, inverted residuals."""

from torch import Tensor, nn

from mmquad.layers.block import MixerBlock
from mmquad.layers.depthwise import DepthwiseConv2d, PointwiseConv2d
from mmquad.layers.drop_path import DropPath
from mmquad.layers.local_attention import DirectionAttention
from mmquad.layers.mixers import ScanMixer
from mmquad.layers.norms import MapBatchNorm
from mmquad.layers.patch import conv_channels_last
from mmquad.scans import AtrousScan

__all__ = ["AtrousMixer", "DualBlock", "InvertedResidual"]


class AtrousMixer(ScanMixer):
    """A gated mixer with four scans, of every second row and column each (:class:`AtrousScan`).

    Args:
        dim: Channels C of the block.
        inner_dim: Channels D of the scan.
        d_state: States N per channel.
        dt_rank: Rank R of the step-size projection; ``ceil(C / 16)`` unless given.
    """

    scan: AtrousScan

    def __init__(
        self, dim: int, inner_dim: int, d_state: int, *, dt_rank: int | None = None
    ) -> None:
        scan = AtrousScan()
        super().__init__(dim, inner_dim, d_state, scan, dt_rank=dt_rank, gate=True, conv_bias=True)

    def mix(self, x: Tensor) -> Tensor:
        # A token's steps, B and C are for its one direction: projected here, not for all four.
        return self.scan.to_grid(self.ssm(self.scan.to_sequences(x)), *x.shape[1:3])


class DualBlock(MixerBlock):
    """A mixer and a branch of convolutions, weighed by one channel attention, in one residual::

        n = norm(x),  x + a(mixer(n)) + a(branch(n)),  a(t) = t sigmoid(W_2 gelu(W_1 mean LN(t)))

    The arguments are those of :class:`MixerBlock`.
    """

    def __init__(self, dim: int, mixer: nn.Module, *arguments: object) -> None:
        super().__init__(dim, mixer, *arguments)  # type: ignore[arg-type]
        self.conv = DepthwiseConv2d(dim, 3)
        self.conv_norm = MapBatchNorm(dim)
        self.act = nn.GELU()
        self.conv_proj = PointwiseConv2d(dim, dim)
        self.attention = DirectionAttention(dim)

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm1(x)
        convolved = self.act(self.conv_norm(conv_channels_last(self.conv, n)))
        mixed = self.weigh(self.mixer(n)) + self.weigh(self.conv_proj(convolved))
        return self.add_mlp(x + self.drop_path(mixed))

    def weigh(self, x: Tensor) -> Tensor:
        """``[B, H, W, C]``, every channel times what the whole map says of it."""
        return self.attention(x.flatten(1, 2)[:, None]).unflatten(1, x.shape[1:3])


class InvertedResidual(nn.Module):
    """MobileNet's: widened fourfold, depthwise 3x3, squeeze and excitation, narrowed; batch norms.

    Args:
        dim: C.
        drop_path: Probability of dropping the branch.
    """

    def __init__(self, dim: int, drop_path: float = 0.0) -> None:
        super().__init__()
        wide = 4 * dim
        self.expand = PointwiseConv2d(dim, wide, bias=False)
        self.norm1 = MapBatchNorm(wide)
        self.conv = DepthwiseConv2d(wide, 3, bias=False)
        self.norm2 = MapBatchNorm(wide)
        self.act = nn.ReLU()
        self.squeeze = PointwiseConv2d(wide, max(wide // 8, 1))
        self.excite = PointwiseConv2d(max(wide // 8, 1), wide)
        self.reduce = PointwiseConv2d(wide, dim, bias=False)
        self.norm3 = MapBatchNorm(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm1(self.expand(x)))
        y = self.act(self.norm2(conv_channels_last(self.conv, y)))
        context = self.act(self.squeeze(y.mean((1, 2), keepdim=True)))
        y = y * self.excite(context).sigmoid()
        return x + self.drop_path(self.norm3(self.reduce(y)))
