"""Which quadtree window deserves the fine order (QuadMamba, arXiv:2410.06806, eq. 4-8)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmquad.scans.quad import QuadScan, QuadTables

__all__ = ["WindowSelector"]


class WindowSelector(nn.Module):
    """Scores the four coarse windows from the tokens and chooses one, differentiably.

    While training, the choice is a hard Gumbel-softmax sample; in evaluation it is the best score,
    without noise. In both, the gradient is that of the softmax (straight through).

    Args:
        dim: Channels D of the tokens.
        use_context: Replace half of the embedding by its average over each window, interpolated
            (eq. 5-6). It adds no parameters.
        temperature: Of the softmax.
    """

    def __init__(self, dim: int, use_context: bool = True, temperature: float = 1.0) -> None:
        super().__init__()
        if dim % 4:
            raise ValueError(f"dim must be a multiple of 4 (two halvings), got {dim}")
        self.use_context = use_context
        self.temperature = temperature
        self.embed = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        self.head = nn.Sequential(
            nn.Linear(dim, dim // 2),
            nn.GELU(),
            nn.Linear(dim // 2, dim // 4),
            nn.GELU(),
            nn.Linear(dim // 4, 2),
        )

    def forward(self, x: Tensor, scan: QuadScan) -> Tensor:
        """Tokens ``[B, H, W, D]`` -> 1 for the chosen window, 0 for the others, ``[B, 4]``."""
        scores = self.window_scores(x, scan)
        noise = -torch.empty_like(scores).exponential_().log() if self.training else 0
        soft = ((scores + noise) / self.temperature).softmax(-1)
        hard = F.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft.dtype)
        # Grouped so that the value is exactly 0 or 1.
        return hard + (soft - soft.detach())

    def window_scores(self, x: Tensor, scan: QuadScan) -> Tensor:
        """Mean locality score of each window, ``[B, 4]``; minus infinity for an empty window."""
        tables = scan.tables(x.shape[1], x.shape[2], x.device)
        score = self.score_map(x, tables)
        mean = tables.mean.to(score.dtype)
        scores = (score[..., None] * mean).sum(1)
        return scores.masked_fill(~tables.occupied, float("-inf"))

    def score_map(self, x: Tensor, tables: QuadTables) -> Tensor:
        """Log-probability of "local" for every token, ``[B, L]``, in row-major order."""
        features = self.embed(x.flatten(1, 2))
        if self.use_context:
            local, surrounding = features.chunk(2, dim=-1)
            mean, upsample = tables.mean.to(x.dtype), tables.upsample.to(x.dtype)
            context = upsample @ (mean.t() @ surrounding)
            features = torch.cat([local, context], dim=-1)
        logits = self.head(features)
        # Averages over thousands of tokens tie in bfloat16, and autocast widens on GPUs only.
        dtype = torch.promote_types(logits.dtype, torch.float32)
        return logits.log_softmax(-1, dtype=dtype)[..., 0]
