"""The layer as the published code computes it, for comparison: every step a tensor of its own.

Follows the pipeline of QuadMamba's release (commit 720ecc3), channels first: multiply by masks,
permute, add, flip, stack, project, widen, scan, flip, add, permute back, multiply by masks. The
order of tokens is this package's, so that the results agree; the scan inside is the fastest one
there is for this layout. Nothing in the package uses this module but the benchmarks.
"""

import torch
from torch import Tensor

from mmquad.layers.selective_ssm import SelectiveSSM
from mmquad.ops import selective_scan

__all__ = ["unfused_scan"]


def unfused_scan(
    ssm: SelectiveSSM,
    x: Tensor,
    order: Tensor,
    inverse: Tensor,
    window: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """One layer, ``[B, L, D] -> [B, L, D]``; tables as in :mod:`mmquad.ops.tokens`."""
    grid = x.transpose(1, 2).contiguous()  # [B, D, L]
    if window is None or weight is None:
        half = order.shape[1] // 2
        forward = [grid[..., order[0, k]] for k in range(half)]
    else:
        half = 1
        mask = weight[:, None, window]  # [B, 1, L]
        forward = [(grid * mask)[..., order[1, 0]] + (grid * (1 - mask))[..., order[0, 0]]]
    xs = torch.stack(forward + [sequence.flip(-1) for sequence in forward], dim=1)  # [B, K, D, L]

    split = [ssm.dt_rank, ssm.d_state, ssm.d_state]
    projected = torch.einsum("bkdl,kcd->bkcl", xs, ssm.x_proj)
    rank, B, C = projected.split(split, dim=2)
    delta = torch.einsum("bkrl,kdr->bkdl", rank, ssm.dt_proj)
    ys = selective_scan(
        xs.flatten(1, 2).float(),
        delta.contiguous().flatten(1, 2).float(),
        -ssm.A_log.float().exp().flatten(0, 1),
        B.contiguous().float(),
        C.contiguous().float(),
        ssm.D_skip.flatten().float(),
        delta_bias=ssm.dt_bias.flatten().float(),
        delta_softplus=True,
    )
    assert isinstance(ys, Tensor)
    ys = ys.unflatten(1, (2 * half, -1))
    merged = ys[:, :half] + ys[:, half:].flip(-1)  # [B, K / 2, D, L]
    if window is None or weight is None:
        y = merged[:, 0][..., inverse[0, 0]]
        for k in range(1, half):
            y = y + merged[:, k][..., inverse[0, k]]
    else:
        fine, coarse = merged[:, 0][..., inverse[1, 0]], merged[:, 0][..., inverse[0, 0]]
        y = mask * fine + (1 - mask) * coarse
    return y.transpose(1, 2).contiguous()
