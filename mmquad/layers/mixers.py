"""Token mixers on channels-last grids: a depthwise convolution and a selective scan.

The families differ in the order tokens are read, so a mixer receives its scan as an object.
"""

from torch import Tensor, nn

from mmquad.layers.depthwise import DepthwiseConv2d
from mmquad.layers.norms import LayerNorm
from mmquad.layers.patch import conv_channels_last
from mmquad.layers.selective_ssm import SelectiveSSM, step_rank
from mmquad.layers.window_selector import WindowSelector
from mmquad.scans import QuadScan, Scan

__all__ = ["QuadMixer", "ScanMixer"]


class ScanMixer(nn.Module):
    """VMamba's SS2D: in_proj, 3x3 depthwise conv, SiLU, scan, LayerNorm, out_proj.

    A family overrides :meth:`mix` where more than the order of the tokens differs.

    Args:
        dim: Channels C of the block.
        inner_dim: Channels D of the scan.
        d_state: States N per channel.
        scan: The orders tokens are read in.
        dt_rank: Rank R of the step-size projection; ``ceil(C / 16)`` unless given.
        gate: Multiply the normed result by SiLU of a second projection of the input, as VMamba's
            first version does.
        conv_bias: The depthwise convolution has a bias.
    """

    def __init__(
        self,
        dim: int,
        inner_dim: int,
        d_state: int,
        scan: Scan,
        *,
        dt_rank: int | None = None,
        gate: bool = False,
        conv_bias: bool = False,
    ) -> None:
        super().__init__()
        self.scan: Scan = scan
        self.gate = gate
        self.in_proj = nn.Linear(dim, inner_dim * (2 if gate else 1), bias=False)
        self.conv = DepthwiseConv2d(inner_dim, 3, bias=conv_bias)
        self.act = nn.SiLU()
        self.ssm = SelectiveSSM(inner_dim, d_state, step_rank(dim, dt_rank), scan.directions)
        self.norm = LayerNorm(inner_dim)
        self.out_proj = nn.Linear(inner_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, H, W, C] -> [B, H, W, C]``."""
        x = self.in_proj(x)  # [B, H, W, D], or twice as many channels
        gate = None
        if self.gate:
            x, gate = x.chunk(2, dim=-1)
        y = self.norm(self.mix(self.act(conv_channels_last(self.conv, x))))
        return self.out_proj(y if gate is None else y * self.act(gate))

    def mix(self, x: Tensor) -> Tensor:
        """The scan over the grid, ``[B, H, W, D] -> [B, H, W, D]``."""
        height, width = x.shape[1:3]
        tables = self.scan.tables(height, width, x.device)
        # [B, H, W, D] -> [B, L, D]: a view. The op reads it in every order; no sequence is copied.
        y = self.ssm.scan_tokens(x.flatten(1, 2), tables.order, tables.inverse)
        return y.unflatten(1, (height, width))


class QuadMixer(ScanMixer):
    """The quadtree mixer of QuadMamba: tokens of a learned window are read more finely.

    Args:
        dim: Channels C of the block.
        inner_dim: Channels D of the scan.
        d_state: States N per channel.
        scan: The quadtree, with this block's shift.
        use_context: See :class:`WindowSelector`.
        top_k: Windows to choose; see :class:`WindowSelector`.
        dt_rank: Rank R of the step-size projection; ``ceil(C / 16)`` unless given.
        conv_bias: The depthwise convolution has a bias.

    Raises:
        ValueError: There are fewer windows than are to be chosen.
    """

    scan: QuadScan

    def __init__(
        self,
        dim: int,
        inner_dim: int,
        d_state: int,
        scan: QuadScan,
        *,
        use_context: bool = True,
        top_k: int = 1,
        dt_rank: int | None = None,
        conv_bias: bool = False,
    ) -> None:
        super().__init__(dim, inner_dim, d_state, scan, dt_rank=dt_rank, conv_bias=conv_bias)
        if top_k > scan.windows:
            raise ValueError(f"top_k must be at most the {scan.windows} windows, got {top_k}")
        self.selector = WindowSelector(inner_dim, use_context, top_k=top_k)

    def mix(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        weight = self.selector(x, self.scan)
        if not self.scan.fused:
            # The released order sums tokens at some positions: no permutation. Three levels mix
            # three orders. The fused op does neither.
            ys = self.ssm(self.scan.to_sequences(x, weight))
            return self.scan.to_grid(ys, weight, height, width)
        tables = self.scan.tables(height, width, x.device)
        y = self.ssm.scan_tokens(
            x.flatten(1, 2), tables.order, tables.inverse, tables.window, weight
        )
        return y.unflatten(1, (height, width))
