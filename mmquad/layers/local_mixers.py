"""LocalMamba's mixers: VMamba's and Vim's, with directions of their own and channel attention."""

from torch import Tensor

from mmquad.layers.bidirectional_mixer import SequenceMixer
from mmquad.layers.local_attention import DirectionAttention, DirectionSearch
from mmquad.layers.mixers import ScanMixer
from mmquad.ops.tokens import gather_tokens, return_directions
from mmquad.scans import LocalScan

__all__ = ["LocalMapMixer", "LocalSequenceMixer"]


class LocalMapMixer(ScanMixer):
    """LocalVMamba's: a depthwise 3x3 convolution of the map, then the scans, on ``[B, H, W, C]``.

    At the empty positions of edge windows the state decays and nothing enters.

    Args:
        dim: Channels C of the block.
        inner_dim: Channels D of the scan.
        d_state: States N per channel.
        scan: The directions.
        search: Weigh the directions as the search network does.
        dt_rank: Rank R of the step-size projection; ``ceil(C / 16)`` unless given.
    """

    def __init__(
        self,
        dim: int,
        inner_dim: int,
        d_state: int,
        scan: LocalScan,
        search: bool = False,
        *,
        dt_rank: int | None = None,
    ) -> None:
        super().__init__(dim, inner_dim, d_state, scan, dt_rank=dt_rank, gate=True, conv_bias=True)
        self.combine = _combination(inner_dim, scan, search)

    def mix(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        tables = self.scan.tables(height, width, x.device)
        # [B, K, L, D]: the attention weighs directions before they are summed.
        ys = self.ssm.scan_tokens(x.flatten(1, 2), tables.order, tables.inverse, merge=False)
        return self.combine(ys).unflatten(1, (height, width))


class LocalSequenceMixer(SequenceMixer):
    """LocalVim's: each direction convolves its own sequence, on tokens ``[B, L, C]`` of a grid.

    The convolution reaches across the empty positions of edge windows and puts something there,
    which enters the state, as in the release.

    Args:
        dim: Channels C of the block.
        inner_dim: Channels D of the scan.
        d_state: States N per channel.
        scan: The directions.
        search: Weigh the directions as the search network does.
        dt_rank: Rank R of the step-size projection; ``ceil(C / 16)`` unless given.
    """

    def __init__(
        self,
        dim: int,
        inner_dim: int,
        d_state: int,
        scan: LocalScan,
        search: bool = False,
        *,
        dt_rank: int | None = None,
    ) -> None:
        super().__init__(dim, inner_dim, d_state, scan.directions, dt_rank=dt_rank)
        self.scan = scan
        self.combine = _combination(inner_dim, scan, search)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """``[B, L, C] -> [B, L, C]``; L as the scan has it for a grid of this height and width."""
        tables = self.scan.tables(height, width, x.device)
        x, gate = self.in_proj(x).chunk(2, dim=-1)
        ys = self.scan_sequences(gather_tokens(x, *tables))  # [B, P, K, D]
        ys = return_directions(ys, *tables)  # [B, K, L, D]
        # The attention looks at gated directions, so the gate comes before their sum.
        y = self.combine(ys * self.act(gate)[:, None])
        return self.out_proj(y.to(x.dtype))


def _combination(dim: int, scan: LocalScan, search: bool) -> DirectionAttention:
    return DirectionSearch(dim, scan.directions) if search else DirectionAttention(dim)
