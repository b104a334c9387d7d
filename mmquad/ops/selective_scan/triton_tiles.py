"""What the Triton kernels of the scan share: a tile of tokens times a block of channels, unrolled.

A program is one warp. Its lanes are channels, so that a row of a token is one coalesced access and
the recurrence needs no communication; the tokens of a tile are the entries of a tuple, one vector
of channels each, so that a state walks through them in registers in either direction. Values that
all channels of a token share (B, C, the ranks of a step size) are scalars.

Nothing here is two-dimensional and nothing is scanned by the compiler, on purpose: a reverse scan
is the same walk over the tuple from its other end.
"""

import triton
import triton.language as tl

__all__ = [
    "decay_less_one",
    "decay_of",
    "offset_of",
    "read_rows",
    "read_scalars",
    "read_steps",
    "read_tokens",
    "softplus",
]

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def softplus(raw):
    """``log(1 + exp(raw))`` and its derivative; every digit for very negative raw, too.

    ``log1p(e) = 2 atanh(e / (2 + e))`` as a series, whose argument's square is at most 1/9.
    """
    e = tl.exp2(-tl.abs(raw) * LOG2E)
    s = e / (e + 2.0)
    q = s * s
    p = q * (1.0 / 15) + (1.0 / 13)
    p = p * q + (1.0 / 11)
    p = p * q + (1.0 / 9)
    p = p * q + (1.0 / 7)
    p = p * q + (1.0 / 5)
    p = p * q + (1.0 / 3)
    inverse = 1.0 / (1.0 + e)
    delta = tl.maximum(raw, 0.0) + 2.0 * (s + s * q * p)
    return delta, tl.where(raw < 0.0, e * inverse, inverse)


@triton.jit
def decay_of(delta, A):
    """``exp(delta A)``."""
    return tl.exp2(delta * (A * LOG2E))


@triton.jit
def decay_less_one(delta, A):
    """``exp(delta A) - 1``; every digit for decays close to 1, too.

    The difference of 1 and a rounded decay of 1 - 1e-7 has one digit or none: from chunk to chunk
    of a long sequence the error would add up.
    """
    x = delta * (A * LOG2E)
    p = x * 1.53533619e-4 + 1.33988747e-3
    p = p * x + 9.61843736e-3
    p = p * x + 5.55033247e-2
    p = p * x + 2.40226479e-1
    p = p * x + 6.93147203e-1
    return tl.where(tl.abs(x) < 0.5, p * x, tl.exp2(x) - 1.0)


@triton.jit
def read_tokens(
    order, start, stop, TILE: tl.constexpr, ORDERED: tl.constexpr, REVERSE: tl.constexpr
):
    """Tokens at the positions from ``start``, in the order in which the tile is walked.

    Returns:
        The tokens, -1 where a position is empty; and which positions lie before ``stop``.
    """
    tokens = ()
    insides = ()
    for t in tl.static_range(TILE):
        position = start + ((TILE - 1 - t) if REVERSE else t)
        inside = position < stop
        if ORDERED:
            token = tl.load(order + position, mask=inside, other=-1)
        else:
            token = tl.where(inside, position, -1)
        tokens = tokens + (token,)
        insides = insides + (inside,)
    return tokens, insides


@triton.jit
def offset_of(token, stride):
    """Where a token's row starts; of 32-bit factors, the 64-bit product is one instruction."""
    return token.to(tl.int64) * stride


@triton.jit
def read_rows(base, stride, tokens, lanes, TILE: tl.constexpr):
    """Every token's channels, in float32; zeros where there is no token or no channel."""
    rows = ()
    for t in tl.static_range(TILE):
        mask = lanes & (tokens[t] >= 0)
        row = tl.load(base + offset_of(tokens[t], stride), mask=mask, other=0.0)
        rows = rows + (row.to(tl.float32),)
    return rows


@triton.jit
def read_scalars(base, stride, tokens, TILE: tl.constexpr):
    """One number per token; zeros where there is none."""
    values = ()
    for t in tl.static_range(TILE):
        place = base + offset_of(tokens[t], stride)
        values = values + (tl.load(place, mask=tokens[t] >= 0, other=0.0),)
    return values


@triton.jit
def read_steps(
    step,
    step_row,
    weight,
    ranks,
    channels,
    bias,
    tokens,
    insides,
    lanes,
    TILE: tl.constexpr,
    PROJECT: tl.constexpr,
    SOFTPLUS: tl.constexpr,
):
    """Step sizes, and their derivatives with respect to what enters the softplus.

    ``step`` points at the ranks of token 0 (PROJECT) or at its channels; ``weight`` at the channels
    of rank 0. An empty position has the step of the bias alone; one that is not inside has none, so
    that states pass it unchanged.
    """
    raws = ()
    for _ in tl.static_range(TILE):
        raws = raws + (bias,)
    if PROJECT:
        # Plain multiply-adds: float32 products have no tensor cores to gain from, and the scalars
        # of a tile serve all channels of the block.
        for r in range(ranks):
            column = tl.load(weight + r * channels, mask=lanes, other=0.0)
            values = read_scalars(step + r, step_row, tokens, TILE)
            added = ()
            for t in tl.static_range(TILE):
                added = added + (raws[t] + values[t] * column,)
            raws = added
    else:
        rows = read_rows(step, step_row, tokens, lanes, TILE)
        added = ()
        for t in tl.static_range(TILE):
            added = added + (raws[t] + rows[t],)
        raws = added
    deltas = ()
    slopes = ()
    for t in tl.static_range(TILE):
        if SOFTPLUS:
            delta, slope = softplus(raws[t])
        else:
            delta, slope = raws[t], tl.full(raws[t].shape, 1.0, tl.float32)
        deltas = deltas + (tl.where(insides[t], delta, 0.0),)
        slopes = slopes + (tl.where(insides[t], slope, 0.0),)
    return deltas, slopes
