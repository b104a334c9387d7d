"""Which quadtree window deserves the fine order (QuadMamba, arXiv:2410.06806, eq. 4-8)."""

import functools

import torch
from torch import Tensor, nn

from mmquad.scans.quad import CHILDREN, QuadScan, QuadTables

__all__ = ["WindowSelector"]


class WindowSelector(nn.Module):
    """Scores the coarse windows from the tokens and chooses one, or several, differentiably.

    While training, the choice is a hard Gumbel-softmax sample; in evaluation it is the best score,
    without noise. In both, the gradient is that of the softmax (straight through). Several
    windows are chosen one after another, each by the same rule among those that are left: in
    training a sample without replacement, in evaluation the best ones; the gradient is that of the
    sum of their softmaxes.

    With three levels, one fine window of every coarse one is chosen in the same way; it matters,
    and gets a gradient, where the coarse one has been chosen.

    Args:
        dim: Channels D of the tokens.
        use_context: Replace half of the embedding by its average over each window, interpolated
            (eq. 5-6). It adds no parameters.
        temperature: Of the softmax.
        top_k: Coarse windows to choose; on grids that occupy fewer, all of them.
    """

    def __init__(
        self, dim: int, use_context: bool = True, temperature: float = 1.0, top_k: int = 1
    ) -> None:
        super().__init__()
        if dim < 4 or (use_context and dim % 2):
            raise ValueError(
                f"dim must be at least 4, and even with use_context (two halves), got {dim}"
            )
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        self.use_context = use_context
        self.temperature = temperature
        self.top_k = top_k
        self.embed = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        self.head = nn.Sequential(
            nn.Linear(dim, dim // 2),
            nn.GELU(),
            nn.Linear(dim // 2, dim // 4),
            nn.GELU(),
            nn.Linear(dim // 4, 2),
        )

    def forward(self, x: Tensor, scan: QuadScan) -> Tensor:
        """Tokens ``[B, H, W, D]`` -> 1 for chosen windows, 0 for the others, ``[B, Q]``.

        With three levels ``[B, Q + 4 Q]``: the fine windows follow the coarse ones.
        """
        height, width = x.shape[1:3]
        tables = scan.tables(height, width, x.device)
        score = self.score_map(x, tables)
        count = min(self.top_k, scan.occupied_windows(height, width))
        weight = self._choose(_average(score, tables.mean, tables.occupied), count)
        if tables.fine is None:
            return weight
        scores = _average(score, tables.fine.mean, tables.fine.occupied)
        parts = self._choose(scores.unflatten(1, (-1, CHILDREN)), 1)
        return torch.cat([weight, parts.flatten(1)], dim=1)

    def _choose(self, scores: Tensor, count: int) -> Tensor:
        """1 for ``count`` of the scores along the last axis and 0 for the others."""
        # Gumbel noise, minus the logarithm of an exponential variable: the arg max of the sum is a
        # sample of the softmax.
        noise = -torch.empty_like(scores).exponential_().log() if self.training else 0
        scores = (scores + noise) / self.temperature
        weights: list[Tensor] = []
        for _ in range(count):
            if weights:
                scores = scores.masked_fill(weights[-1] > 0.5, float("-inf"))
            soft = scores.softmax(-1)
            # As one_hot, which reads values, and torch.func.vmap has none to read.
            places = torch.arange(soft.shape[-1], device=soft.device)
            hard = (places == soft.argmax(-1, keepdim=True)).to(soft.dtype)
            # Grouped so that the value is exactly 0 or 1.
            weights.append(hard + (soft - soft.detach()))
        return functools.reduce(torch.add, weights)

    def window_scores(self, x: Tensor, scan: QuadScan) -> Tensor:
        """Mean locality score of each coarse window, ``[B, Q]``; minus infinity if it is empty."""
        tables = scan.tables(x.shape[1], x.shape[2], x.device)
        return _average(self.score_map(x, tables), tables.mean, tables.occupied)

    def score_map(self, x: Tensor, tables: QuadTables) -> Tensor:
        """Log-probability of "local" for every token, ``[B, L]``, in row-major order."""
        features = self.embed(x.flatten(1, 2))
        if self.use_context:
            local, surrounding = features.chunk(2, dim=-1)
            mean, upsample = tables.mean.to(x.dtype), tables.upsample.to(x.dtype)
            # [L, Q] ([Q, L] [B, L, D / 2]): average over each window, then spread over the map.
            context = upsample @ (mean.t() @ surrounding)
            features = torch.cat([local, context], dim=-1)
        logits = self.head(features)
        # Averages over thousands of tokens tie in bfloat16, and autocast widens on GPUs only.
        dtype = torch.promote_types(logits.dtype, torch.float32)
        return logits.log_softmax(-1, dtype=dtype)[..., 0]


def _average(score: Tensor, mean: Tensor, occupied: Tensor) -> Tensor:
    """Means of a map of scores ``[B, L]`` over windows; minus infinity for those without tokens."""
    scores = (score[..., None] * mean.to(score.dtype)).sum(1)
    return scores.masked_fill(~occupied, float("-inf"))
