"""The mixer of Vision Mamba (Vim, arXiv:2401.09417): a Mamba block in two directions."""

import torch
from torch import Tensor, nn

from mmquad.layers.selective_ssm import SelectiveSSM
from mmquad.ops import causal_conv1d

__all__ = ["BidirectionalMixer"]


class BidirectionalMixer(nn.Module):
    """in_proj to x and gate; per direction causal conv, SiLU and scan; mean, gate, out_proj.

    A family with other directions overrides :meth:`to_sequences` and :meth:`to_tokens`.

    Args:
        dim: Channels C of the block.
        inner_dim: Channels D of the scan.
        d_state: States N per channel.
        dt_rank: Rank R of the step-size projection.
        directions: Number of sequences K.
        conv_size: Taps W of the causal depthwise convolution.
    """

    def __init__(
        self,
        dim: int,
        inner_dim: int,
        d_state: int,
        dt_rank: int,
        directions: int = 2,
        conv_size: int = 4,
    ) -> None:
        super().__init__()
        self.in_proj = nn.Linear(dim, 2 * inner_dim, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(directions, inner_dim, conv_size))
        self.conv_bias = nn.Parameter(torch.empty(directions, inner_dim))
        self.act = nn.SiLU()
        self.ssm = SelectiveSSM(inner_dim, d_state, dt_rank, directions)
        self.out_proj = nn.Linear(inner_dim, dim, bias=False)
        for parameter in (self.conv_weight, self.conv_bias):  # as nn.Conv1d does
            nn.init.uniform_(parameter, -(conv_size**-0.5), conv_size**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, L, C] -> [B, L, C]``."""
        x, gate = self.in_proj(x).chunk(2, dim=-1)
        xs = self.to_sequences(x)
        # Depthwise, so the directions are nothing but more channels.
        taps, bias = self.conv_weight.flatten(0, 1), self.conv_bias.flatten()
        xs = causal_conv1d(xs.flatten(2), taps, bias).unflatten(2, xs.shape[2:])
        return self.out_proj(self.to_tokens(self.ssm(xs)) * self.act(gate))

    def to_sequences(self, x: Tensor) -> Tensor:
        """Tokens ``[B, L, D]`` -> sequences ``[B, L, K, D]``: forwards and backwards."""
        return torch.stack([x, x.flip(1)], dim=2)

    def to_tokens(self, ys: Tensor) -> Tensor:
        """Sequences ``[B, L, K, D]`` -> tokens ``[B, L, D]``: the mean of the directions."""
        forwards, backwards = ys.unbind(2)
        return (forwards + backwards.flip(1)) / 2
