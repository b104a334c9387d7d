"""The mixers of MambaVision (arXiv:2407.08083, section 3): half a scan, and attention."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmquad.layers.selective_ssm import SelectiveSSM, step_rank
from mmquad.ops import causal_conv1d
from mmquad.scans import RasterScan

__all__ = ["HalfScanMixer", "SelfAttention"]

TAPS = 3  # of the convolution


class HalfScanMixer(nn.Module):
    """in_proj, width-3 convolution and SiLU of all channels; a scan of half of them; out_proj::

        a, b = SiLU(conv(in_proj(x)))
        y    = out_proj([scan(a), b])

    One direction. The convolution is centred: each token sees its two neighbours in the sequence.

    Args:
        dim: Channels C of the block, even; D = C / 2 are scanned.
        d_state: States N per channel.
        dt_rank: Rank R of the step-size projection; ``ceil(C / 16)`` unless given.

    Raises:
        ValueError: C is odd.
    """

    def __init__(self, dim: int, d_state: int, *, dt_rank: int | None = None) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"dim must be even: half of the channels are scanned, got {dim}")
        self.scan = RasterScan()
        self.in_proj = nn.Linear(dim, dim, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(dim, TAPS))
        nn.init.uniform_(self.conv_weight, -(TAPS**-0.5), TAPS**-0.5)  # as nn.Conv1d does
        self.ssm = DoubleBiasSSM(dim // 2, d_state, step_rank(dim, dt_rank), directions=1)
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, L, C] -> [B, L, C]``."""
        # Of the sequence with one token more, the causal convolution one token later is centred.
        padded = F.pad(self.in_proj(x), (0, 0, 0, TAPS // 2))
        scanned, other = causal_conv1d(padded, self.conv_weight)[:, TAPS // 2 :].chunk(2, dim=-1)
        tables = self.scan.tables(1, x.shape[1], x.device)
        y = self.ssm.scan_tokens(scanned, tables.order, tables.inverse)
        # The scan is float32; the projection reads what in_proj wrote, 16-bit in 16-bit models.
        return self.out_proj(torch.cat([y.to(other.dtype), other], dim=-1))


class DoubleBiasSSM(SelectiveSSM):
    """A selective scan whose step sizes get their bias twice, as the release's do.

    There the linear layer of the steps adds it, and the scan once more. The stored value is the
    release's, so that training changes it as there.
    """

    def step_bias(self) -> Tensor:
        return self.dt_bias + self.dt_bias


class SelfAttention(nn.Module):
    """Multi-head self-attention over all tokens, without positions or mask.

    Args:
        dim: Channels C.
        num_heads: Heads, which divide C.

    Raises:
        ValueError: They do not.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got {num_heads} heads and {dim} channels")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, L, C] -> [B, L, C]``."""
        # [B, L, 3 C] -> three of [B, heads, L, C / heads]
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.proj(attended.transpose(1, 2).flatten(2))
