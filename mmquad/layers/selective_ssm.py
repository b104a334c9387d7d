"""Mamba's input-dependent state-space model (S6) along K token sequences."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmquad.layers.weight_decay import exempt_from_decay
from mmquad.ops import directional_scan, selective_scan

__all__ = ["SelectiveSSM", "step_rank"]

# Range of the initial step sizes (Mamba, arXiv:2312.00752, section 3.6).
DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 0.1, 1e-4


def step_rank(dim: int, dt_rank: int | None = None) -> int:
    """Rank R of the step-size projection in a block of ``dim`` channels C.

    ``ceil(C / 16)`` unless given: Mamba's ``"auto"``, which all published models have.
    """
    return -(-dim // 16) if dt_rank is None else dt_rank


class SelectiveSSM(nn.Module):
    """Projections to (dt, B, C) and the selective scan, independently for each direction.

    ``A = -exp(A_log)`` is computed in float32 at least, and the scan keeps it and the sums of dt
    with its bias there, also in 16-bit models. What ``half()`` and ``bfloat16()`` round are the
    stored ``A_log``, ``dt_bias`` and ``D_skip`` themselves, to 11 or 8 bits.

    Args:
        dim: Inner channels D.
        d_state: States N per channel.
        dt_rank: Rank R of the step-size projection.
        directions: Number of sequences K.
    """

    def __init__(self, dim: int, d_state: int, dt_rank: int, directions: int) -> None:
        super().__init__()
        self.dim, self.d_state, self.dt_rank, self.directions = dim, d_state, dt_rank, directions
        self.x_proj = nn.Parameter(torch.empty(directions, dt_rank + 2 * d_state, dim))
        self.dt_proj = nn.Parameter(torch.empty(directions, dim, dt_rank))
        self.dt_bias = nn.Parameter(torch.empty(directions, dim))
        self.A_log = nn.Parameter(torch.empty(directions, dim, d_state))
        self.D_skip = nn.Parameter(torch.empty(directions, dim))
        exempt_from_decay(self, "dt_bias", "A_log", "D_skip")
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Mamba's: S4D-real A, dt log-uniform in [1e-3, 0.1] after softplus, D = 1."""
        nn.init.uniform_(self.x_proj, -(self.dim**-0.5), self.dim**-0.5)
        nn.init.uniform_(self.dt_proj, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        dt = torch.rand_like(self.dt_bias) * (math.log(DT_MAX) - math.log(DT_MIN))
        dt = (dt + math.log(DT_MIN)).exp_().clamp_(min=DT_FLOOR)
        self.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus
        states = torch.arange(1, self.d_state + 1, device=self.A_log.device)
        self.A_log.copy_(states.log().expand_as(self.A_log))
        nn.init.ones_(self.D_skip)

    def state_matrix(self) -> Tensor:
        """The diagonal of A of every direction, ``[K, D, N]``, negative, in float32 at least."""
        # An exponential in 16 bits would round once more, by up to 1 / 256 of A.
        return -self.A_log.to(torch.promote_types(self.A_log.dtype, torch.float32)).exp()

    def step_bias(self) -> Tensor:
        """What is added to step sizes before softplus, ``[K, D]``."""
        return self.dt_bias

    def scan_tokens(
        self,
        x: Tensor,
        order: Tensor,
        inverse: Tensor,
        window: Tensor | None = None,
        weight: Tensor | None = None,
        *,
        merge: bool = True,
    ) -> Tensor:
        """Tokens ``[B, L, D]`` -> ``[B, L, D]``, in float32 at least, summed over the directions.

        The same as reordering, :meth:`forward` and merging, in one op; tables, weight and merge as
        in :func:`mmquad.ops.directional_scan`: with ``merge=False``, ``[B, K, L, D]`` unsummed.
        """
        # Pointwise, so it may come before the reordering: one product for all directions.
        z = F.linear(x, self.x_proj.flatten(0, 1))  # [B, L, K (R + 2 N)]
        parameters = (self.dt_proj, self.step_bias(), self.state_matrix(), self.D_skip)
        return directional_scan(x, z, *parameters, order, inverse, window, weight, merge=merge)

    def scan_states(self, x: Tensor, order: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
        """The states themselves, ``[B, L, D]`` in float32 at least, and C of every token.

        For one state and one direction: ``h`` before it is read out, and ``C`` ``[B, L, 1]``. The
        skip is left out.

        Raises:
            ValueError: There are more.
        """
        if not self.d_state == self.directions == 1:
            raise ValueError(
                "states can be given of one direction with one state, this has "
                f"{self.directions} with {self.d_state}"
            )
        z = F.linear(x, self.x_proj.flatten(0, 1))
        z, C = z[..., :-1], z[..., -1:]
        parameters = (self.dt_proj, self.step_bias(), self.state_matrix(), None)
        return directional_scan(x, z, *parameters, order, inverse), C

    def forward(self, xs: Tensor) -> Tensor:
        """Sequences ``[B, L, K, D]`` -> ``[B, L, K, D]``, in float32 at least."""
        return self.scan(xs, *self.project(xs))

    def project(self, xs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sequences ``[B, L, K, D]`` -> steps before bias and softplus ``[B, L, K, D]``, B and C.

        B and C are ``[B, L, K, N]``.
        """
        self._check(xs, self.directions)
        split = (self.dt_rank, self.d_state, self.d_state)
        projected = torch.einsum("blkd,kcd->blkc", xs, self.x_proj)
        dt, B, C = projected.split(split, dim=-1)
        return torch.einsum("blkr,kdr->blkd", dt, self.dt_proj), B, C

    def scan(self, xs: Tensor, dt: Tensor, B: Tensor, C: Tensor) -> Tensor:
        """The scan of ``[B, L, K, D]`` under given steps, B and C, in float32 at least.

        With one direction's parameters, any number K of sequences may share them.
        """
        directions = xs.shape[2] if self.directions == 1 else self.directions
        self._check(xs, directions)
        A, D_skip, dt_bias = (
            parameter.expand(directions, *parameter.shape[1:]).flatten(0, 1)
            for parameter in (self.state_matrix(), self.D_skip, self.step_bias())
        )
        # The scan reads [B, K D, L]; a transpose keeps the memory token-major: nothing is copied.
        y = selective_scan(
            xs.flatten(2).transpose(1, 2),
            dt.flatten(2).transpose(1, 2),
            A,
            B.permute(0, 2, 3, 1),
            C.permute(0, 2, 3, 1),
            D_skip,
            delta_bias=dt_bias,
            delta_softplus=True,
            # Sums of states reach 1e4 and more, beyond float16's range once gated or merged.
            out_dtype=torch.promote_types(xs.dtype, torch.float32),
        )
        assert isinstance(y, Tensor)
        return y.transpose(1, 2).unflatten(2, (directions, self.dim))

    def _check(self, xs: Tensor, directions: int) -> None:
        if xs.ndim != 4 or tuple(xs.shape[2:]) != (directions, self.dim):
            raise ValueError(
                f"expected xs [B, L, K={directions}, D={self.dim}], got {tuple(xs.shape)}"
            )

    def extra_repr(self) -> str:
        return (
            f"dim={self.dim}, d_state={self.d_state}, dt_rank={self.dt_rank}, "
            f"directions={self.directions}"
        )
