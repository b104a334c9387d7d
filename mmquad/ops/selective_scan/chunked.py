"""The selective scan in vectorised PyTorch: two-level chunks, one state at a time.

Tokens lie in memory as ``[B, L, D]``. The sequence is cut into chunks of T tokens; all chunks
advance together, one token per step, so a scan of L tokens costs about ``2 T + L / T`` calls on
large tensors. Three sweeps per state:

1. from zero, the end state of every chunk;
2. across chunks, the state each one starts from (decay over a chunk: ``exp(A * sum(delta))``, which
   stays accurate where a product of L factors does not);
3. from those states, every token.

Looping over the N states keeps the working set at a few ``[B, L, D]`` buffers instead of
``[B, L, D, N]``. No division by decays, no log space: nothing here under- or overflows that does
not in the equations themselves.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["selective_scan_backward_chunked", "selective_scan_chunked"]

# From this many floats per token on, calls are dominated by the memory they stream: one sweep
# (a single chunk) then beats the three that short steps need. Measured on two AVX-512 cores.
SINGLE_CHUNK_FLOATS = 4096


class _Tokens(NamedTuple):
    """Inputs in token-major layout, in the accumulation dtype."""

    u: Tensor  # [B, L, D]
    delta: Tensor  # [B, L, D], after bias and softplus
    A: Tensor  # [D, N]
    B: Tensor  # [B, L, G, N]
    C: Tensor  # [B, L, G, N]


def _token_major(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> _Tokens:
    u, raw = u.transpose(1, 2).contiguous(), delta.transpose(1, 2)
    if delta_bias is not None:
        raw = raw + delta_bias
    step = F.softplus(raw) if delta_softplus else raw.contiguous()
    return _Tokens(u, step, A, B.permute(0, 3, 1, 2), C.permute(0, 3, 1, 2))


def _chunk_length(length: int, floats_per_token: int) -> int:
    if floats_per_token >= SINGLE_CHUNK_FLOATS:
        return length
    return max(1, math.isqrt(length - 1) + 1)


class _LinearRecurrence:
    """Solves ``h_t = decay_t * h_{t-1} + b_t`` in place, for ``decay = exp(delta * a)``.

    ``reverse`` runs from the last token to the first, by index arithmetic. The buffers are padded
    to whole chunks with tokens that change nothing (decay 1, input 0).
    """

    def __init__(self, delta: Tensor, chunk: int, reverse: bool = False) -> None:
        batch, self.length, self.channels = delta.shape
        self.chunks = -(-self.length // chunk)
        padded = self.chunks * chunk
        self.delta = delta
        self.reverse = reverse
        self.decay = delta.new_ones(batch, padded, self.channels)
        self.state = delta.new_zeros(batch, padded, self.channels)
        self._steps = range(chunk - 1, -1, -1) if reverse else range(chunk)
        self._order = range(self.chunks - 1, -1, -1) if reverse else range(self.chunks)
        if self.chunks > 1:
            padded_delta = F.pad(delta, (0, 0, 0, padded - self.length))
            self.chunk_delta = self._split(padded_delta).sum(2)  # [B, chunks, D]

    def _split(self, x: Tensor) -> Tensor:  # [B, L, D] -> [B, chunks, T, D]
        return x.unflatten(1, (self.chunks, -1))

    @property
    def tokens(self) -> Tensor:
        """Input b before :meth:`solve`, the states after it; a view ``[B, L, D]``."""
        return self.state[:, : self.length]

    def set_decay(self, a: Tensor) -> Tensor:
        """Decays for one state with ``a [D]``; returns the view ``[B, L, D]``."""
        self._a = a
        decay = self.decay[:, : self.length]
        torch.mul(self.delta, a, out=decay)
        return decay.exp_()

    def solve(self, initial: Tensor | None = None) -> Tensor:
        """Run the recurrence over :attr:`tokens`; ``initial [B, D]`` enters at the first token."""
        decay, state = self._split(self.decay), self._split(self.state)
        carry = state.new_zeros(state.shape[0], self.chunks, self.channels)
        if self.chunks > 1:
            end = torch.zeros_like(carry)
            for t in self._steps:
                torch.addcmul(state[:, :, t], end, decay[:, :, t], out=end)
            chunk_decay = torch.exp(self.chunk_delta * self._a)
        running = carry.new_zeros(carry.shape[0], self.channels) if initial is None else initial
        for c in self._order:
            carry[:, c] = running
            if self.chunks > 1:
                running = torch.addcmul(end[:, c], running, chunk_decay[:, c])
        previous = carry
        for t in self._steps:
            previous = state[:, :, t].addcmul_(previous, decay[:, :, t])
        return self.tokens


def _times_group(x: Tensor, grouped: Tensor, out: Tensor | None = None) -> Tensor:
    """``x [B, L, D] * grouped [B, L, G]``, each group's value for its own D / G channels."""
    shape = (grouped.shape[2], -1)
    target = None if out is None else out.unflatten(2, shape)
    return torch.mul(x.unflatten(2, shape), grouped[..., None], out=target).flatten(2)


def _over_group(x: Tensor, y: Tensor, groups: int) -> Tensor:
    """``sum over the channels of each group of x * y``: two ``[B, L, D]`` -> ``[B, L, G]``."""
    return (x * y).unflatten(2, (groups, -1)).sum(3)


def _of_state(initial_state: Tensor | None, n: int) -> Tensor | None:  # [B, D, N] -> [B, D]
    return None if initial_state is None else initial_state[..., n]


def selective_scan_chunked(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Same contract as :func:`~.reference.selective_scan_reference`; y is token-major in memory."""
    tokens = _token_major(u, delta, A, B, C, delta_bias, delta_softplus)
    batch, length, channels = tokens.u.shape
    y = tokens.u * D if D is not None else torch.zeros_like(tokens.u)
    last = tokens.u.new_zeros(batch, channels, A.shape[1])
    drive = tokens.delta * tokens.u
    recurrence = _LinearRecurrence(tokens.delta, _chunk_length(length, batch * channels))
    for n in range(A.shape[1]):
        recurrence.set_decay(A[:, n])
        # The tail beyond L keeps decay 1 and input 0 only if no earlier state leaked into it.
        recurrence.state[:, length:].zero_()
        _times_group(drive, tokens.B[..., n], out=recurrence.tokens)
        h = recurrence.solve(_of_state(initial_state, n))
        last[..., n] = h[:, -1]
        y += _times_group(h, tokens.C[..., n])
    return y.transpose(1, 2), last


def selective_scan_backward_chunked(
    dy: Tensor,
    dlast: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Gradients as :func:`~.reference.selective_scan_backward_reference` returns them."""
    tokens = _token_major(u, delta, A, B, C, delta_bias, delta_softplus)
    batch, length, channels = tokens.u.shape
    dy = dy.transpose(1, 2).contiguous()
    drive = tokens.delta * tokens.u
    chunk = _chunk_length(length, batch * channels)
    forward = _LinearRecurrence(tokens.delta, chunk)
    # The adjoint at token t decays with the step of token t + 1.
    next_delta = F.pad(tokens.delta[:, 1:], (0, 0, 0, 1))
    adjoint = _LinearRecurrence(next_delta, chunk, reverse=True)

    ddrive, ddelta = torch.zeros_like(drive), torch.zeros_like(drive)
    dA = torch.empty_like(A)
    dB, dC = torch.empty_like(tokens.B), torch.empty_like(tokens.C)
    dinitial = None if initial_state is None else torch.empty_like(initial_state)
    for n in range(A.shape[1]):
        decay = forward.set_decay(A[:, n])
        forward.state[:, length:].zero_()
        _times_group(drive, tokens.B[..., n], out=forward.tokens)
        entering = _of_state(initial_state, n)
        h = forward.solve(entering)

        adjoint.set_decay(A[:, n])
        adjoint.state[:, length:].zero_()
        _times_group(dy, tokens.C[..., n], out=adjoint.tokens)
        g = adjoint.solve(dlast[..., n])

        dC[..., n] = _over_group(dy, h, C.shape[1])
        dB[..., n] = _over_group(g, drive, B.shape[1])
        ddrive += _times_group(g, tokens.B[..., n])
        # g_t decay_t h_{t-1}. The cheaper h_t - b_t loses every digit where a state decays fast.
        carried = decay.mul_(g)
        if entering is None or dinitial is None:
            carried[:, 0].zero_()
        else:
            dinitial[..., n] = carried[:, 0]
            carried[:, 0].mul_(entering)
        carried[:, 1:].mul_(h[:, :-1])
        dA[:, n] = (carried * tokens.delta).sum((0, 1))
        ddelta.addcmul_(carried, A[:, n])

    du = ddrive * tokens.delta
    ddelta.addcmul_(ddrive, tokens.u)
    dD = (dy * tokens.u).sum((0, 1))
    if D is not None:
        du.addcmul_(dy, D)
    if delta_softplus:
        ddelta.mul_(torch.expm1(-tokens.delta)).neg_()  # softplus' = 1 - exp(-softplus)
    dbias = ddelta.sum((0, 1))
    return (
        du.transpose(1, 2),
        ddelta.transpose(1, 2),
        dA,
        dB.permute(0, 2, 3, 1),
        dC.permute(0, 2, 3, 1),
        dD,
        dbias,
        *(() if dinitial is None else (dinitial,)),
    )
