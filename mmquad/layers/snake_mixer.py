"""The mixer of PlainMamba (arXiv:2403.17695, sections 3.3 and 3.4)."""

import torch
from torch import Tensor, nn

from mmquad.layers.depthwise import DepthwiseConv2d
from mmquad.layers.patch import conv_channels_last
from mmquad.layers.selective_ssm import SelectiveSSM, step_rank
from mmquad.layers.weight_decay import exempt_from_decay
from mmquad.ops.tokens import gather_tokens, merge_tokens
from mmquad.scans import SnakeScan
from mmquad.scans.snake import NUM_MOVES

__all__ = ["SnakeMixer"]


class SnakeMixer(nn.Module):
    """in_proj to x and gate; depthwise conv, SiLU, four snake scans; sum, gate, out_proj.

    All directions share one set of parameters; what tells them apart is a learned vector added to
    B_t, which depends on the move that led to token t.

    Args:
        dim: Channels C of the block.
        inner_dim: Channels D of the scan.
        d_state: States N per channel.
        conv_size: Side of the depthwise convolution.
        dt_rank: Rank R of the step-size projection; ``ceil(C / 16)`` unless given.
        double_dt_bias: Add the bias of the step sizes twice, as the release does.
        raster_parameters: Reorder the input of the scan only: position p of a direction has the
            step, B and C of token p of the row-major map, as in the release. Otherwise they are
            those of the token that is read.
    """

    def __init__(
        self,
        dim: int,
        inner_dim: int,
        d_state: int,
        *,
        conv_size: int,
        dt_rank: int | None = None,
        double_dt_bias: bool = True,
        raster_parameters: bool = True,
    ) -> None:
        super().__init__()
        self.scan = SnakeScan()
        self.double_dt_bias = double_dt_bias
        self.raster_parameters = raster_parameters
        self.in_proj = nn.Linear(dim, 2 * inner_dim)
        self.conv = DepthwiseConv2d(inner_dim, conv_size)
        self.act = nn.SiLU()
        self.ssm = SelectiveSSM(inner_dim, d_state, step_rank(dim, dt_rank), directions=1)
        self.direction_B = nn.Parameter(torch.empty(NUM_MOVES, d_state))
        nn.init.trunc_normal_(self.direction_B, std=0.02)
        exempt_from_decay(self, "direction_B")
        self.out_proj = nn.Linear(inner_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, H, W, C] -> [B, H, W, C]``."""
        height, width = x.shape[1:3]
        x, gate = self.in_proj(x).chunk(2, dim=-1)
        x = self.act(conv_channels_last(self.conv, x)).flatten(1, 2)  # [B, L, D]
        order, inverse, moves = self.scan.tables(height, width, x.device)
        # Once for all directions, which share their parameters; then reordered, or repeated.
        parts = self.ssm.project(x[:, :, None])  # dt, B and C, [B, L, 1, .]
        if self.raster_parameters:
            dt, B, C = (part.expand(-1, -1, self.scan.directions, -1) for part in parts)
        else:
            dt, B, C = (gather_tokens(part[:, :, 0], order, inverse) for part in parts)
        if self.double_dt_bias:
            dt = dt + self.ssm.dt_bias
        # [K, L] -> [L, K, N], added along the order in which each direction reads
        B = B + self.direction_B[moves.t()]
        ys = self.ssm.scan(gather_tokens(x, order, inverse), dt, B, C)
        y = merge_tokens(ys, order, inverse).unflatten(1, (height, width))
        return self.out_proj((y * self.act(gate)).to(x.dtype))
