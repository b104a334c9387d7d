"""The atrous scan of EfficientVMamba (arXiv:2403.09977, section 4.1): every second row and column.

Here orders are partial: a direction reads a quarter of the tokens, and none is read by two. So
nothing is summed, and what a direction finds is written where it read.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from mmquad.ops.sizes import surely
from mmquad.scans.base import EMPTY, INDEX, Scan, ScanTables, Shapes

__all__ = ["AtrousScan"]


@dataclasses.dataclass(frozen=True)
class AtrousScan(Scan[ScanTables]):
    """Direction k has the rows of parity ``k % 2`` and the columns of parity ``k // 2``.

    Those of even rows read row by row, those of odd rows column by column. Odd sizes are padded at
    the bottom and the right with empty positions, which stand inside the sequences and let the
    state decay: ``P = ceil(H/2) ceil(W/2)``.

    Sequences are slices of the grid, so they are cut without the tables; these have -1 also for
    tokens that a direction does not read.

    Example:
        >>> import torch
        >>> from mmquad.scans import AtrousScan
        >>> AtrousScan().orders(2, 3, torch.device("cpu")).tolist()
        [[0, 2], [3, 5], [1, -1], [4, -1]]
    """

    @property
    def directions(self) -> int:
        return 4

    def num_tokens(self, height: int, width: int) -> int:
        """Number of tokens L, of all directions together."""
        return height * width

    def orders(self, height: int, width: int, device: torch.device) -> Tensor:
        """Token read at each position, or ``EMPTY``, ``[4, P]``."""
        numbers = torch.arange(1, 1 + height * width, device=device).view(1, height, width, 1)
        return self.to_sequences(numbers)[0, :, :, 0].t() - 1  # padded with 0: EMPTY

    def build(self, height: int, width: int) -> list[Tensor]:
        order = self.orders(height, width, torch.device("cpu"))[None]
        tokens, positions = height * width, torch.arange(order.shape[2]).expand(order.shape)
        # One column too many takes the empty positions.
        inverse = order.new_full((*order.shape[:2], tokens + 1), EMPTY)
        inverse.scatter_(-1, order % (tokens + 1), positions)
        return [order.to(INDEX).contiguous(), inverse[..., :tokens].to(INDEX).contiguous()]

    def shapes(self, height: int, width: int) -> Shapes:
        positions = -(-height // 2) * -(-width // 2)
        return [((1, 4, positions), INDEX), ((1, 4, height * width), INDEX)]

    def pack(self, tables: list[Tensor]) -> ScanTables:
        return ScanTables(*tables)

    def to_sequences(self, x: Tensor) -> Tensor:
        """Grid ``[B, H, W, D]`` -> sequences ``[B, P, 4, D]``, zero at empty positions."""
        batch, height, width, channels = x.shape
        rows, columns = -(-height // 2), -(-width // 2)
        below, right = 2 * rows - height, 2 * columns - width
        if not surely(below + right == 0):
            x = F.pad(x, (0, 0, 0, right, 0, below))
        grid = x.reshape(batch, rows, 2, columns, 2, channels)
        sequences = []
        for k in range(4):
            sub = grid[:, :, k % 2, :, k // 2]
            sub = sub.transpose(1, 2) if k % 2 else sub
            # Copied without a question about sizes, to which a graph of changing ones would be tied
            sub = sub.clone(memory_format=torch.contiguous_format)
            sequences.append(sub.view(batch, rows * columns, channels))
        return torch.stack(sequences, dim=2)

    def to_grid(self, ys: Tensor, height: int, width: int) -> Tensor:
        """Sequences ``[B, P, 4, D]`` -> grid ``[B, H, W, D]``, every token written once."""
        rows, columns = -(-height // 2), -(-width // 2)
        batch, channels = ys.shape[0], ys.shape[3]
        subs = []
        for k, y in enumerate(ys.unbind(2)):
            shape = (columns, rows) if k % 2 else (rows, columns)
            sub = y.view(batch, *shape, channels)
            subs.append(sub.transpose(1, 2) if k % 2 else sub)
        pairs = [torch.stack(subs[2 * column : 2 * column + 2], dim=2) for column in (0, 1)]
        grid = torch.stack(pairs, dim=4)  # [B, rows, 2, columns, 2, D]
        x = grid.view(batch, 2 * rows, 2 * columns, channels)
        below, right = 2 * rows - height, 2 * columns - width
        return x if surely(below + right == 0) else F.pad(x, (0, 0, 0, -right, 0, -below))
