"""Triton kernel of the scan's gradient.

Chunk by chunk, with the state before the chunk and the adjoint behind it known
(:mod:`.triton_forward`): forward through the tiles, noting the state before each; then from the
last tile to the first, recomputing the states of one tile at a time in registers. What would be too
much for registers (adjoints, sums over tokens, one row per state) lives in memory that one program
alone touches: read and written once a tile, it stays in cache.

There are no atomics. A program takes chunks ``share, share + shares, ...`` of all samples, adds up
parameter gradients in its own rows, and writes the gradients of B and C for its own block of
channels; the caller adds shares and blocks up in a fixed order. What the raw steps' gradients mean
for the ranks and dt_weight is two matrix products (:mod:`.triton_projection`).
"""

import triton
import triton.language as tl

from mmquad.ops.selective_scan.triton_tiles import (
    decay_of,
    offset_of,
    read_rows,
    read_scalars,
    read_steps,
    read_tokens,
)

__all__ = ["gradients"]

GRADIENTS_ARGUMENTS = [
    *("dy_ptr", "dy_batch", "dy_group", "dy_row", "x_ptr", "x_batch", "x_group", "x_row"),
    *("step_ptr", "step_batch", "step_group", "step_row"),
    *("B_ptr", "B_batch", "B_group", "B_state", "B_row"),
    *("C_ptr", "C_batch", "C_group", "C_state", "C_row"),
    *("weight_ptr", "bias_ptr", "A_ptr", "skip_ptr", "order_ptr", "order_batch", "order_group"),
    *("states_ptr", "adjoints_ptr", "marks_ptr"),
    *("dx_ptr", "dx_batch", "dx_group", "dx_row", "dstep_ptr", "dstep_batch", "dstep_group"),
    *("dstep_row", "dBC_ptr", "dBC_block", "dBC_batch", "dBC_group", "dBC_row"),
    *("sums_ptr", "rival_ptr", "choice_ptr"),
    *("positions", "channels", "groups", "states", "ranks", "chunk_length", "chunks", "blocks"),
    *("tasks", "first_group", "merge", "length"),
]


@triton.jit(do_not_specialize=GRADIENTS_ARGUMENTS)
def gradients(
    dy_ptr,
    dy_batch: tl.int64,
    dy_group: tl.int64,
    dy_row,
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
    states_ptr,  # [B, K, chunks, N, D], the state before each chunk
    adjoints_ptr,  # the same, the adjoint behind each chunk; overwritten
    marks_ptr,  # scratch [programs, tiles of a chunk, N, BLOCK]
    dx_ptr,
    dx_batch: tl.int64,
    dx_group: tl.int64,
    dx_row,
    dstep_ptr,  # of what enters the softplus
    dstep_batch: tl.int64,
    dstep_group: tl.int64,
    dstep_row,
    dBC_ptr,  # [blocks, B, L, K, 2 N]
    dBC_block: tl.int64,
    dBC_batch: tl.int64,
    dBC_group: tl.int64,
    dBC_row,
    sums_ptr,  # [shares, K, N + 2, D], zeros: A, dt_bias, D_skip
    rival_ptr,  # [B, K, P], the token each position did not choose (WINDOWED)
    choice_ptr,  # [blocks, B, K, L] (WINDOWED)
    positions,
    channels: tl.int64,
    groups,
    states,
    ranks,
    chunk_length,
    chunks,
    blocks,
    tasks,
    first_group,
    merge,
    length: tl.int64,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    PROJECT: tl.constexpr,
    ORDERED: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    WINDOWED: tl.constexpr,
):
    """All gradients of one block of channels in one share of the chunks; see the module.

    ``merge`` adds the groups' dx up as :func:`.triton_forward.outputs` adds y: then one group a
    launch. ``choice`` gets, per token and direction, what the tokens read contribute less what
    their rivals would have, through x and y.
    """
    if PROJECT:  # columns of one tensor: one product per token finds them all
        B_row, C_row = step_row, step_row
    block = tl.program_id(0) % blocks
    share = tl.program_id(0) // blocks
    shares = tl.num_programs(0) // blocks
    program = (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    d = block * BLOCK + lane
    lanes = d < channels
    marks = marks_ptr + program * tl.cdiv(chunk_length, TILE) * states * BLOCK + lane
    k = tl.cast(first_group + tl.program_id(1), tl.int64)
    adds = merge * k > 0
    bias = tl.load(bias_ptr + k * channels + d, mask=lanes, other=0.0)
    skip = tl.load(skip_ptr + k * channels + d, mask=lanes, other=0.0)
    rates = A_ptr + k * states * channels + d
    weight = weight_ptr + k * ranks * channels + d
    sums = sums_ptr + (share.to(tl.int64) * groups + k) * (states + 2) * channels
    dbias = tl.zeros([BLOCK], tl.float32)
    dskip = tl.zeros([BLOCK], tl.float32)
    for task in range(share, tasks, shares):
        chunk = task % chunks
        b = (task // chunks).to(tl.int64)
        first, stop = chunk * chunk_length, tl.minimum((chunk + 1) * chunk_length, positions)
        tiles = tl.cdiv(stop - first, TILE)
        x = x_ptr + b * x_batch + k * x_group + d
        dx = dx_ptr + b * dx_batch + k * dx_group + d
        dy = dy_ptr + b * dy_batch + k * dy_group + d
        step = step_ptr + b * step_batch + k * step_group
        dstep = dstep_ptr + b * dstep_batch + k * dstep_group + d
        if not PROJECT:
            step = step + d
        B, C = B_ptr + b * B_batch + k * B_group, C_ptr + b * C_batch + k * C_group
        dBC = dBC_ptr + block * dBC_block + b * dBC_batch + k * dBC_group
        order = order_ptr + b * order_batch + k * order_group
        rivals = rival_ptr + (b * groups + k) * positions
        samples = (tasks // chunks).to(tl.int64)
        choice = choice_ptr + ((block * samples + b) * groups + k) * length
        row = ((b * groups + k) * chunks + chunk) * states
        entries = states_ptr + row * channels + d
        adjoints = adjoints_ptr + row * channels + d

        for n in range(states):
            entry = tl.load(entries + n * channels, mask=lanes, other=0.0)
            tl.store(marks + n * BLOCK, entry)
        for tile in range(tiles - 1):
            start = first + tile * TILE
            tokens, insides = read_tokens(order, start, stop, TILE, ORDERED, False)
            xs = read_rows(x, x_row, tokens, lanes, TILE)
            deltas, _ = read_steps(
                step, step_row, weight, ranks, channels, bias, tokens, insides, lanes,
                TILE, PROJECT, SOFTPLUS,
            )  # fmt: skip
            for n in range(states):
                rate = tl.load(rates + n * channels, mask=lanes, other=0.0)
                h = tl.load(marks + (tile * states + n) * BLOCK)
                Bs = read_scalars(B + n * B_state, B_row, tokens, TILE)
                for t in tl.static_range(TILE):
                    h = h * decay_of(deltas[t], rate) + deltas[t] * xs[t] * Bs[t]
                tl.store(marks + ((tile + 1) * states + n) * BLOCK, h)

        for i in range(tiles):
            tile = tiles - 1 - i
            start = first + tile * TILE
            tokens, insides = read_tokens(order, start, stop, TILE, ORDERED, False)
            xs = read_rows(x, x_row, tokens, lanes, TILE)
            dys = read_rows(dy, dy_row, tokens, lanes, TILE)
            deltas, slopes = read_steps(
                step, step_row, weight, ranks, channels, bias, tokens, insides, lanes,
                TILE, PROJECT, SOFTPLUS,
            )  # fmt: skip
            # Of the input delta x B before B, of the step by way of the decay, and the output.
            ddrives = ()
            ddeltas = ()
            ys = ()
            for t in tl.static_range(TILE):
                ddrives = ddrives + (tl.zeros([BLOCK], tl.float32),)
                ddeltas = ddeltas + (tl.zeros([BLOCK], tl.float32),)
                ys = ys + (skip * xs[t],)
            for n in range(states):
                rate = tl.load(rates + n * channels, mask=lanes, other=0.0)
                h = tl.load(marks + (tile * states + n) * BLOCK)
                g = tl.load(adjoints + n * channels, mask=lanes, other=0.0)
                drate = tl.load(sums + n * channels + d, mask=lanes, other=0.0)
                Bs = read_scalars(B + n * B_state, B_row, tokens, TILE)
                Cs = read_scalars(C + n * C_state, C_row, tokens, TILE)
                dB = dBC + n
                dC = dB + states
                befores = ()
                decays = ()
                rebuilt = ()
                for t in tl.static_range(TILE):
                    decay = decay_of(deltas[t], rate)
                    decays = decays + (decay,)
                    befores = befores + (h,)
                    h = h * decay + deltas[t] * xs[t] * Bs[t]
                    tl.store(
                        dC + offset_of(tokens[t], dBC_row), tl.sum(dys[t] * h), mask=tokens[t] >= 0
                    )
                    if WINDOWED:
                        rebuilt = rebuilt + (ys[t] + h * Cs[t],)
                if WINDOWED:
                    ys = rebuilt
                earlier = ()
                sooner = ()
                for i_ in tl.static_range(TILE):
                    # From the last token of the tile to its first.
                    g += dys[TILE - 1 - i_] * Cs[TILE - 1 - i_]
                    drive = deltas[TILE - 1 - i_] * xs[TILE - 1 - i_]
                    token = tokens[TILE - 1 - i_]
                    tl.store(dB + offset_of(token, dBC_row), tl.sum(g * drive), mask=token >= 0)
                    earlier = (ddrives[TILE - 1 - i_] + g * Bs[TILE - 1 - i_],) + earlier
                    g *= decays[TILE - 1 - i_]
                    # g decay h_before. The cheaper h - input loses every digit where a
                    # state decays fast.
                    carried = g * befores[TILE - 1 - i_]
                    drate += carried * deltas[TILE - 1 - i_]
                    sooner = (ddeltas[TILE - 1 - i_] + carried * rate,) + sooner
                ddrives = earlier
                ddeltas = sooner
                tl.store(adjoints + n * channels, g, mask=lanes)
                tl.store(sums + n * channels + d, drate, mask=lanes)

            for t in tl.static_range(TILE):
                token = tokens[t]
                mask = lanes & (token >= 0)
                of_x = skip * dys[t] + ddrives[t] * deltas[t]
                draw = (ddeltas[t] + ddrives[t] * xs[t]) * slopes[t]
                dskip += dys[t] * xs[t]
                dbias += draw
                there = tl.load(dx + offset_of(token, dx_row), mask=mask & adds, other=0.0)
                tl.store(dx + offset_of(token, dx_row), there + of_x, mask=mask)
                tl.store(dstep + offset_of(token, dstep_row), draw, mask=mask)
                if WINDOWED:
                    position = start + t
                    rival = tl.load(rivals + position, mask=position < stop, other=-1)
                    known = lanes & (rival >= 0)
                    x_rival = tl.load(x + offset_of(rival, x_row), mask=known, other=0.0)
                    dy_rival = tl.load(dy + offset_of(rival, dy_row), mask=known, other=0.0)
                    gain = of_x * (xs[t] - x_rival.to(tl.float32)) + ys[t] * (dys[t] - dy_rival)
                    tl.store(choice + token, tl.sum(gain), mask=token >= 0)
    parameters = sums + states * channels + d
    tl.store(parameters, dbias, mask=lanes)
    tl.store(parameters + channels, dskip, mask=lanes)
