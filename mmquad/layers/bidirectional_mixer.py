"""Mixers of sequences, each with its own causal convolution: Vision Mamba's (arXiv:2401.09417)."""

import torch
from torch import Tensor, nn

from mmquad.layers.selective_ssm import SelectiveSSM, step_rank
from mmquad.layers.weight_decay import exempt_from_decay
from mmquad.ops import causal_conv1d

__all__ = ["BidirectionalMixer", "SequenceMixer"]


class SequenceMixer(nn.Module):
    """The parts of a Mamba block with K directions; a family says how tokens become sequences.

    Args:
        dim: Channels C of the block.
        inner_dim: Channels D of the scan.
        d_state: States N per channel.
        directions: Number of sequences K.
        dt_rank: Rank R of the step-size projection; ``ceil(C / 16)`` unless given.
        conv_size: Taps W of the causal depthwise convolution.
    """

    def __init__(
        self,
        dim: int,
        inner_dim: int,
        d_state: int,
        directions: int = 2,
        *,
        dt_rank: int | None = None,
        conv_size: int = 4,
    ) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, 2 * inner_dim, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(directions, inner_dim, conv_size))
        self.conv_bias = nn.Parameter(torch.empty(directions, inner_dim))
        exempt_from_decay(self, "conv_bias")  # optimizers know a bias by its one axis
        self.act = nn.SiLU()
        self.ssm = SelectiveSSM(inner_dim, d_state, step_rank(dim, dt_rank), directions)
        self.out_proj = nn.Linear(inner_dim, dim, bias=False)
        for parameter in (self.conv_weight, self.conv_bias):  # as nn.Conv1d does
            nn.init.uniform_(parameter, -(conv_size**-0.5), conv_size**-0.5)

    def scan_sequences(self, xs: Tensor) -> Tensor:
        """Convolution, SiLU and scan, ``[B, L, K, D] -> [B, L, K, D]``."""
        # Depthwise, so the directions are nothing but more channels: [B, L, K, D] -> [B, L, K D].
        taps, bias = self.conv_weight.flatten(0, 1), self.conv_bias.flatten()
        return self.ssm(causal_conv1d(xs.flatten(2), taps, bias).unflatten(2, xs.shape[2:]))


class BidirectionalMixer(SequenceMixer):
    """Vim's: in_proj to x and gate; x forwards and backwards; mean, gate, out_proj.

    The arguments are those of :class:`SequenceMixer`; there are two directions.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``[B, L, C] -> [B, L, C]``."""
        x, gate = self.in_proj(x).chunk(2, dim=-1)
        ys = self.scan_sequences(torch.stack([x, x.flip(1)], dim=2))  # [B, L, 2, D]
        forwards, backwards = ys.unbind(2)
        y = (forwards + backwards.flip(1)) / 2 * self.act(gate)
        # The scan is float32; the projection reads what in_proj wrote, 16-bit in 16-bit models.
        return self.out_proj(y.to(x.dtype))
