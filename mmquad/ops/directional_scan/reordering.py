"""Moving tokens into K sequences and back by tables, in PyTorch: what ops and exports are made of.

Orders ``[1 or B, K, P]`` and their inverses ``[1 or B, K, L]`` serve all samples, or each has its
own. Tokens are rows, and embedding is torch's fastest gather of rows on CPU and GPU. An
empty position (-1) reads zeros, and no token asks for what is found there. Out of place throughout:
exporters trace these functions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "gather_apart",
    "gather_columns",
    "gather_shared",
    "merge_apart",
    "merge_columns",
    "merge_shared",
    "sum_windows",
]


def gather_shared(x: Tensor, order: Tensor) -> Tensor:
    """Tokens in every direction's order: ``[B, L, D] -> [B, P, K, D]``."""
    x, order = _with_empty_row(x, order)
    return F.embedding(order.transpose(1, 2) + _first_rows(x), x.flatten(0, 1))


def gather_columns(z: Tensor, order: Tensor) -> Tensor:
    """Each direction's own columns in its order: ``[B, L, K (R + 2 N)] -> [B, P, K, R + 2 N]``."""
    z, order = _with_empty_row(z, order)
    directions = order.shape[1]
    k = torch.arange(directions, device=z.device)
    rows = (order.transpose(1, 2) + _first_rows(z)) * directions + k
    return F.embedding(rows, z.reshape(-1, z.shape[2] // directions))


def gather_apart(x: Tensor, order: Tensor) -> Tensor:
    """Each direction's own tokens in its own order: ``[B, K, L, D] -> [B, P, K, D]``."""
    x, order = _with_empty_row(x, order)
    rows = order + _first_rows(x.flatten(0, 1)).view(*x.shape[:2], 1)
    return F.embedding(rows.transpose(1, 2), x.flatten(0, 2))


def merge_shared(ys: Tensor, inverse: Tensor) -> Tensor:
    """Transpose of :func:`gather_shared`: ``[B, P, K, D] -> [B, L, D]``, summed over directions."""
    rows, table = _result_rows(ys, inverse), ys.flatten(0, 2)
    merged = F.embedding(rows[:, 0], table)
    for k in range(1, ys.shape[2]):
        merged = merged + F.embedding(rows[:, k], table)
    return merged


def merge_columns(zs: Tensor, inverse: Tensor) -> Tensor:
    """Transpose of :func:`gather_columns`: ``[B, P, K, R + 2 N] -> [B, L, K (R + 2 N)]``."""
    return F.embedding(_result_rows(zs, inverse).transpose(1, 2), zs.flatten(0, 2)).flatten(2)


def merge_apart(ys: Tensor, inverse: Tensor) -> Tensor:
    """Transpose of :func:`gather_apart`: ``[B, P, K, D] -> [B, K, L, D]``."""
    return F.embedding(_result_rows(ys, inverse), ys.flatten(0, 2))


def sum_windows(values: Tensor, window: Tensor, windows: int) -> Tensor:
    """Sum ``values [B, L]`` over the tokens of each window: ``[B, Q]``, in a fixed order."""
    member = window[:, None] == torch.arange(windows, device=window.device)
    return torch.where(member, values[..., None], values.new_zeros(())).sum(1)


def _first_rows(table: Tensor) -> Tensor:
    """Where each sample's tokens start in a table of all samples' tokens, ``[B, 1, 1]``."""
    batch, length = table.shape[:2]
    return torch.arange(batch, device=table.device)[:, None, None] * length


def _with_empty_row(tokens: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """A last row of zeros for empty positions to read, and the order that reads it there."""
    length, positions = tokens.shape[-2], order.shape[2]
    # The sizes tell whether there are any: looking for them would stop a GPU.
    if positions == length:
        return tokens, order
    return F.pad(tokens, (0, 0, 0, 1)), order.remainder(length + 1)


def _result_rows(ys: Tensor, inverse: Tensor) -> Tensor:
    """Where each direction's result for each token is, ``[B, K, L]``, in the rows of ``ys``."""
    directions = ys.shape[2]
    k = torch.arange(directions, device=ys.device)[:, None]
    return (inverse + _first_rows(ys)) * directions + k
