"""Triton kernels of the two matrix products behind the step sizes' gradients, in true float32.

Library products would follow the process-wide switch to TensorFloat-32; these never do. Sums over
rows are split into a fixed number of parts, which the caller adds up in a fixed order.
"""

import triton
import triton.language as tl

__all__ = ["project_to_ranks", "project_to_weights"]

RANKS_ARGUMENTS = [
    *("dstep_ptr", "weight_ptr", "dz_ptr", "dz_row", "rows", "channels", "ranks"),
]


@triton.jit(do_not_specialize=RANKS_ARGUMENTS)
def project_to_ranks(
    dstep_ptr,  # [rows, D]
    weight_ptr,  # [R, D]
    dz_ptr,  # [rows, R], rows dz_row apart
    dz_row: tl.int64,
    rows,
    channels,
    ranks,
    ROWS: tl.constexpr,
    RANKS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """``dz = dstep weight^T`` for ROWS rows and RANKS ranks."""
    row = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    rank = (tl.program_id(1) * RANKS + tl.arange(0, RANKS))[None, :]
    total = tl.zeros([ROWS, RANKS], tl.float32)
    for first in range(0, channels, CHANNELS):
        d = first + tl.arange(0, CHANNELS)
        mask = (row < rows) & (d < channels)[None, :]
        draw = tl.load(dstep_ptr + row * channels + d[None, :], mask=mask, other=0.0)
        mask = (rank < ranks) & (d < channels)[:, None]
        weight = tl.load(weight_ptr + rank * channels + d[:, None], mask=mask, other=0.0)
        total = tl.dot(draw, weight, acc=total, input_precision="ieee")
    tl.store(dz_ptr + row * dz_row + rank, total, mask=(row < rows) & (rank < ranks))


WEIGHTS_ARGUMENTS = [
    *("dstep_ptr", "z_ptr", "z_row", "dweight_ptr", "rows", "rows_each", "channels", "ranks"),
]


@triton.jit(do_not_specialize=WEIGHTS_ARGUMENTS)
def project_to_weights(
    dstep_ptr,  # [rows, D]
    z_ptr,  # [rows, R], rows z_row apart
    z_row: tl.int64,
    dweight_ptr,  # [parts, R, D]
    rows,
    rows_each,
    channels,
    ranks,
    ROWS: tl.constexpr,
    RANKS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """``dweight = z^T dstep`` over ``rows_each`` rows, for RANKS ranks and CHANNELS channels."""
    d = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    rank = tl.program_id(1) * RANKS + tl.arange(0, RANKS)
    part = tl.program_id(2).to(tl.int64)
    first = part * rows_each
    stop = tl.minimum(first + rows_each, rows)
    total = tl.zeros([RANKS, CHANNELS], tl.float32)
    for start in range(0, rows_each, ROWS):
        row = first + start + tl.arange(0, ROWS)
        mask = (row < stop)[:, None] & (d < channels)
        draw = tl.load(dstep_ptr + row[:, None] * channels + d, mask=mask, other=0.0)
        mask = (row < stop)[None, :] & (rank < ranks)[:, None]
        z = tl.load(z_ptr + row[None, :] * z_row + rank[:, None], mask=mask, other=0.0)
        total = tl.dot(z, draw, acc=total, input_precision="ieee")
    place = dweight_ptr + (part * ranks + rank[:, None]) * channels + d
    tl.store(place, total, mask=(rank < ranks)[:, None] & (d < channels))
