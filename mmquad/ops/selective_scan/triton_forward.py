"""Triton kernels of the scan's output: chunk ends, their combination, and the final pass.

A sequence is cut into chunks. :func:`chunk_ends` finds what every chunk leaves behind from a zero
state, :func:`combine_chunks` what each one starts from, :func:`outputs` runs through all tokens. A
sequence of one chunk needs the last of them only. The first two also serve the gradient, where the
adjoint state runs through the sequence from its end.

States pass from tile to tile through memory that one program alone touches, so that their number
is no constant; read and written once a tile, it stays in cache.

Groups are the scan's directions, or the groups of channels that share B and C. Pointers come with
their strides in elements; the channels of a row are adjacent. No argument but the constants in
capitals enters compilation, so that sizes, strides and alignments never compile anything anew.
"""

import triton
import triton.language as tl

from mmquad.ops.selective_scan.triton_tiles import (
    decay_less_one,
    decay_of,
    offset_of,
    read_rows,
    read_scalars,
    read_steps,
    read_tokens,
)

__all__ = ["chunk_ends", "combine_chunks", "outputs"]

# Loads in flight while chunks are combined, one after the other.
AHEAD: tl.constexpr = tl.constexpr(8)

ENDS_ARGUMENTS = [
    *("value_ptr", "value_batch", "value_group", "value_row"),
    *("step_ptr", "step_batch", "step_group", "step_row"),
    *("coefficient_ptr", "coefficient_batch", "coefficient_group"),
    *("coefficient_state", "coefficient_row", "weight_ptr", "bias_ptr", "A_ptr"),
    *("order_ptr", "order_batch", "order_group", "ends_ptr", "sums_ptr"),
    *("positions", "channels", "ranks", "chunk_length", "chunks", "blocks", "states"),
]


@triton.jit(do_not_specialize=ENDS_ARGUMENTS)
def chunk_ends(
    value_ptr,
    value_batch: tl.int64,
    value_group: tl.int64,
    value_row,
    step_ptr,
    step_batch: tl.int64,
    step_group: tl.int64,
    step_row,
    coefficient_ptr,
    coefficient_batch: tl.int64,
    coefficient_group: tl.int64,
    coefficient_state: tl.int64,
    coefficient_row,
    weight_ptr,  # [K, R, D]
    bias_ptr,  # [K, D]
    A_ptr,  # [K, N, D]
    order_ptr,  # [1 or B, K, P]
    order_batch: tl.int64,
    order_group: tl.int64,
    ends_ptr,  # [B, K, chunks, N, D]
    sums_ptr,  # [B, K, chunks, D], steps summed over each chunk
    positions,
    channels: tl.int64,
    ranks,
    chunk_length,
    chunks,
    blocks,
    states,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PROJECT: tl.constexpr,
    ORDERED: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    REVERSE: tl.constexpr,
):
    """From a zero state: the state after each chunk, or (REVERSE) the adjoint before it.

    Forward, values are x and coefficients B; in reverse, values are dy and coefficients C.
    """
    if PROJECT:  # columns of one tensor: one product per token finds them all
        coefficient_row = step_row
    block = tl.program_id(0) % blocks
    chunk = tl.program_id(0) // blocks % chunks
    b = (tl.program_id(0) // blocks // chunks).to(tl.int64)
    k = tl.program_id(1).to(tl.int64)
    d = block * BLOCK + tl.arange(0, BLOCK)
    lanes = d < channels
    first, stop = chunk * chunk_length, tl.minimum((chunk + 1) * chunk_length, positions)
    value = value_ptr + b * value_batch + k * value_group + d
    step = step_ptr + b * step_batch + k * step_group
    if not PROJECT:
        step = step + d
    coefficient = coefficient_ptr + b * coefficient_batch + k * coefficient_group
    order = order_ptr + b * order_batch + k * order_group
    bias = tl.load(bias_ptr + k * channels + d, mask=lanes, other=0.0)
    weight = weight_ptr + k * ranks * channels + d

    rates = A_ptr + k * states * channels + d
    row = (b * tl.num_programs(1) + k) * chunks + chunk
    ends = ends_ptr + row * states * channels + d
    for n in range(states):
        tl.store(ends + n * channels, tl.zeros([BLOCK], tl.float32), mask=lanes)
    total = tl.zeros([BLOCK], tl.float32)
    tiles = tl.cdiv(stop - first, TILE)
    for i in range(tiles):
        start = first + ((tiles - 1 - i) if REVERSE else i) * TILE
        tokens, insides = read_tokens(order, start, stop, TILE, ORDERED, REVERSE)
        values = read_rows(value, value_row, tokens, lanes, TILE)
        deltas, _ = read_steps(
            step, step_row, weight, ranks, channels, bias, tokens, insides, lanes,
            TILE, PROJECT, SOFTPLUS,
        )  # fmt: skip
        for t in tl.static_range(TILE):
            total += deltas[t]
        for n in range(states):
            scales = read_scalars(
                coefficient + n * coefficient_state, coefficient_row, tokens, TILE
            )
            rate = tl.load(rates + n * channels, mask=lanes, other=0.0)
            h = tl.load(ends + n * channels, mask=lanes, other=0.0)
            for t in tl.static_range(TILE):
                decay = decay_of(deltas[t], rate)
                if REVERSE:
                    h = (h + values[t] * scales[t]) * decay
                else:
                    h = h * decay + deltas[t] * values[t] * scales[t]
            tl.store(ends + n * channels, h, mask=lanes)
    tl.store(sums_ptr + row * channels + d, total, mask=lanes)


COMBINE_ARGUMENTS = [
    *("ends_ptr", "sums_ptr", "A_ptr", "initial_ptr"),
    *("channels", "groups", "states", "chunks", "blocks"),
]


@triton.jit(do_not_specialize=COMBINE_ARGUMENTS)
def combine_chunks(
    ends_ptr,  # [B, K, chunks, N, D]
    sums_ptr,  # [B, K, chunks, D]
    A_ptr,  # [K, N, D]
    initial_ptr,  # [B, K, N, D], or anything unless INITIAL
    channels: tl.int64,
    groups,
    states,
    chunks,
    blocks,
    BLOCK: tl.constexpr,
    INITIAL: tl.constexpr,
    REVERSE: tl.constexpr,
):
    """Replace what each chunk leaves behind by what it starts from.

    A chunk's decay is ``exp(A * sum of its steps)``: a product of the decays would lose digits.
    """
    block = tl.program_id(0) % blocks
    n = tl.program_id(0) // blocks % states
    sample = (tl.program_id(0) // blocks // states).to(tl.int64)  # b K + k
    d = block * BLOCK + tl.arange(0, BLOCK)
    lanes = d < channels
    rate = tl.load(A_ptr + (sample % groups * states + n) * channels + d, mask=lanes, other=0.0)
    if INITIAL:
        running = tl.load(initial_ptr + (sample * states + n) * channels + d, mask=lanes, other=0.0)
    else:
        running = tl.zeros([BLOCK], tl.float32)
    for first in range(0, chunks, AHEAD):
        places = ()
        ends = ()
        losses = ()
        for i in tl.static_range(AHEAD):
            chunk = (chunks - 1 - first - i) if REVERSE else (first + i)
            row = sample * chunks + chunk
            mask = lanes & (first + i < chunks)
            place = ends_ptr + (row * states + n) * channels + d
            places = places + (place,)
            ends = ends + (tl.load(place, mask=mask, other=0.0),)
            total = tl.load(sums_ptr + row * channels + d, mask=mask, other=0.0)
            losses = losses + (decay_less_one(total, rate),)
        for i in tl.static_range(AHEAD):
            tl.store(places[i], running, mask=lanes & (first + i < chunks))
            running += running * losses[i] + ends[i]


OUTPUTS_ARGUMENTS = [
    *("x_ptr", "x_batch", "x_group", "x_row", "step_ptr", "step_batch", "step_group", "step_row"),
    *("B_ptr", "B_batch", "B_group", "B_state", "B_row"),
    *("C_ptr", "C_batch", "C_group", "C_state", "C_row"),
    *("weight_ptr", "bias_ptr", "A_ptr", "skip_ptr", "order_ptr", "order_batch", "order_group"),
    *("states_ptr", "y_ptr", "y_batch", "y_group", "y_row"),
    *("positions", "channels", "groups", "ranks", "chunk_length", "chunks", "blocks"),
    *("first_group", "groups_each", "merge", "states"),
]


@triton.jit(do_not_specialize=OUTPUTS_ARGUMENTS)
def outputs(
    x_ptr,
    x_batch: tl.int64,
    x_group: tl.int64,
    x_row,
    step_ptr,
    step_batch: tl.int64,
    step_group: tl.int64,
    step_row,
    B_ptr,
    B_batch: tl.int64,
    B_group: tl.int64,
    B_state: tl.int64,
    B_row,
    C_ptr,
    C_batch: tl.int64,
    C_group: tl.int64,
    C_state: tl.int64,
    C_row,
    weight_ptr,  # [K, R, D]
    bias_ptr,  # [K, D]
    A_ptr,  # [K, N, D]
    skip_ptr,  # [K, D]
    order_ptr,  # [1 or B, K, P]
    order_batch: tl.int64,
    order_group: tl.int64,
    states_ptr,  # [B, K, chunks, N, D], the state before each chunk; then the one after it
    y_ptr,
    y_batch: tl.int64,
    y_group: tl.int64,
    y_row,
    positions,
    channels: tl.int64,
    groups,
    ranks,
    chunk_length,
    chunks,
    blocks,
    first_group,
    groups_each,
    merge,
    states,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PROJECT: tl.constexpr,
    ORDERED: tl.constexpr,
    SOFTPLUS: tl.constexpr,
):
    """Every token's output, from the states before the chunks.

    ``merge`` adds the groups up: all but the first add to what is there already, so two groups must
    never run at once unless one program runs both, ``groups_each`` of them in turn.
    """
    if PROJECT:  # columns of one tensor: one product per token finds them all
        B_row, C_row = step_row, step_row
    block = tl.program_id(0) % blocks
    chunk = tl.program_id(0) // blocks % chunks
    b = (tl.program_id(0) // blocks // chunks).to(tl.int64)
    d = block * BLOCK + tl.arange(0, BLOCK)
    lanes = d < channels
    first, stop = chunk * chunk_length, tl.minimum((chunk + 1) * chunk_length, positions)
    own = first_group + tl.program_id(1) * groups_each
    for group in range(own, own + groups_each):
        k = tl.cast(group, tl.int64)
        adds = merge * group > 0
        x = x_ptr + b * x_batch + k * x_group + d
        y = y_ptr + b * y_batch + k * y_group + d
        step = step_ptr + b * step_batch + k * step_group
        if not PROJECT:
            step = step + d
        B, C = B_ptr + b * B_batch + k * B_group, C_ptr + b * C_batch + k * C_group
        order = order_ptr + b * order_batch + k * order_group
        bias = tl.load(bias_ptr + k * channels + d, mask=lanes, other=0.0)
        skip = tl.load(skip_ptr + k * channels + d, mask=lanes, other=0.0)
        weight = weight_ptr + k * ranks * channels + d
        row = (b * groups + k) * chunks + chunk
        rates = A_ptr + k * states * channels + d
        running = states_ptr + row * states * channels + d

        for start in range(first, stop, TILE):
            tokens, insides = read_tokens(order, start, stop, TILE, ORDERED, False)
            xs = read_rows(x, x_row, tokens, lanes, TILE)
            deltas, _ = read_steps(
                step, step_row, weight, ranks, channels, bias, tokens, insides, lanes,
                TILE, PROJECT, SOFTPLUS,
            )  # fmt: skip
            ys = ()
            for t in tl.static_range(TILE):
                mask = lanes & (tokens[t] >= 0) & adds
                there = tl.load(y + offset_of(tokens[t], y_row), mask=mask, other=0.0)
                ys = ys + (there + skip * xs[t],)
            for n in range(states):
                Bs = read_scalars(B + n * B_state, B_row, tokens, TILE)
                Cs = read_scalars(C + n * C_state, C_row, tokens, TILE)
                rate = tl.load(rates + n * channels, mask=lanes, other=0.0)
                h = tl.load(running + n * channels, mask=lanes, other=0.0)
                added = ()
                for t in tl.static_range(TILE):
                    h = h * decay_of(deltas[t], rate) + deltas[t] * xs[t] * Bs[t]
                    added = added + (ys[t] + h * Cs[t],)
                ys = added
                tl.store(running + n * channels, h, mask=lanes)
            for t in tl.static_range(TILE):
                tl.store(y + offset_of(tokens[t], y_row), ys[t], mask=lanes & (tokens[t] >= 0))
        # The next group adds to rows that this one has just written.
        tl.debug_barrier()
