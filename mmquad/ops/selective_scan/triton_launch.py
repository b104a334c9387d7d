"""Grids, block sizes and scratch memory of the Triton kernels, for both ops of this package.

Everything is decided by shapes alone, here, so that the same inputs give the same bits and nothing
is tuned or compiled while a network runs. The kernels are imported when they are first launched.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Operand",
    "ScanGradients",
    "ScanProblem",
    "chunk_length",
    "enter_chunks",
    "on_device_of",
    "run_gradients",
    "run_outputs",
]

# One warp, two channels per lane: a scalar that is loaded for a token then serves 64 channels.
BLOCK = 64
# Tokens in registers at once. With 4, the kernels of the output take up to 123 registers (16 warps
# on a multiprocessor), and the gradient fills 255 without spilling more than 8 bytes on sm_90 and
# 200 on sm_80; with 8, it spills 344 and 512. benchmarks/compile_triton.py counts them.
TILE = 4
WARP = {"num_warps": 1, "num_stages": 1}
# Tiles of the two matrix products, of four warps.
PRODUCT = {"num_warps": 4, "num_stages": 1}
RANKS, RANK_ROWS, RANK_CHANNELS = 16, 64, 32
WEIGHT_ROWS, WEIGHT_CHANNELS, WEIGHT_ROWS_EACH, WEIGHT_PARTS = 32, 64, 512, 64

# A sequence up to the first bound is one chunk: at such lengths there are samples and channels
# enough to fill a GPU, and two passes are saved. Longer chunks beyond the second bound keep short
# what runs over chunks one after the other.
ONE_CHUNK, LONG = 256, 16384
CHUNK, LONG_CHUNK = 64, 256

# Programs of the gradient, each with its own sums of parameter gradients: about what 132
# multiprocessors hold at 8 to 16 warps each, so that more would only mean more sums to add up.
GRADIENT_PROGRAMS = 2048


class Operand(NamedTuple):
    """A tensor as kernels see it; strides in elements, between samples, groups and tokens."""

    tensor: Tensor
    batch: int
    group: int
    row: int

    def named(self, name: str) -> dict[str, Any]:
        """As the arguments of a kernel."""
        return {
            f"{name}_ptr": self.tensor,
            f"{name}_batch": self.batch,
            f"{name}_group": self.group,
            f"{name}_row": self.row,
        }


@dataclass(frozen=True)
class ScanProblem:
    """What is scanned: K groups (directions) of D channels each, N states, R ranks.

    Attributes:
        x: Inputs, channels adjacent.
        step: Raw steps, channels adjacent; or with ``weight``, the ranks they are projected from.
        B: Its states are ``B_state`` apart.
        C: Its states are ``C_state`` apart.
        weight: From ranks to steps, ``[K, R, D]``; then B and C have the rows of ``step``.
        bias: ``[K, D]``.
        A: ``[K, N, D]``.
        skip: ``[K, D]``.
        order: Token at each position, int32, ``[1 or B, K, P]``; None: as they lie.
        batch: Samples.
        length: Tokens L.
        softplus: Whether steps pass through it.
    """

    x: Operand
    step: Operand
    B: Operand
    B_state: int
    C: Operand
    C_state: int
    weight: Tensor | None
    bias: Tensor
    A: Tensor
    skip: Tensor
    order: Tensor | None
    batch: int
    length: int
    softplus: bool

    @property
    def groups(self) -> int:
        return self.A.shape[0]

    @property
    def states(self) -> int:
        return self.A.shape[1]

    @property
    def channels(self) -> int:
        return self.A.shape[2]

    @property
    def ranks(self) -> int:
        return 0 if self.weight is None else self.weight.shape[1]

    @property
    def positions(self) -> int:
        return self.length if self.order is None else self.order.shape[2]

    @property
    def chunks(self) -> int:
        return -(-self.positions // chunk_length(self.positions))

    @property
    def blocks(self) -> int:
        return -(-self.channels // BLOCK)

    @property
    def state_shape(self) -> tuple[int, ...]:
        """One state per chunk, ``[B, K, chunks, N, D]``."""
        return (self.batch, self.groups, self.chunks, self.states, self.channels)

    def empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=self.A.device)

    def arguments(self) -> dict[str, Any]:
        """What every kernel that reads steps takes."""
        order = self.A if self.order is None else self.order
        samples = 1 if self.order is None else self.order.shape[0]
        return {
            **self.step.named("step"),
            "weight_ptr": self.bias if self.weight is None else self.weight,
            "bias_ptr": self.bias,
            "A_ptr": self.A,
            "order_ptr": order,
            "order_batch": self.groups * self.positions if samples > 1 else 0,
            "order_group": self.positions,
            "positions": self.positions,
            "channels": self.channels,
            "states": self.states,
            "ranks": self.ranks,
            "chunk_length": chunk_length(self.positions),
            "chunks": self.chunks,
            "blocks": self.blocks,
            "BLOCK": BLOCK,
            "TILE": TILE,
            "PROJECT": self.weight is not None,
            "ORDERED": self.order is not None,
            "SOFTPLUS": self.softplus,
            **WARP,
        }


class ScanGradients(NamedTuple):
    """Gradients that :func:`run_gradients` finds; those of x are in the operand it was given."""

    BC: Tensor  # [B, L, K, 2 N]
    ranks: Tensor | None  # [B, L, K, R]
    weight: Tensor | None  # [K, R, D]
    bias: Tensor  # [K, D]
    A: Tensor  # [K, N, D]
    skip: Tensor  # [K, D]
    choice: Tensor | None  # [B, K, L], what reading the rivals instead would lose


def chunk_length(positions: int) -> int:
    """Tokens between two states."""
    if positions <= ONE_CHUNK:
        return -(-max(positions, 1) // TILE) * TILE
    return CHUNK if positions <= LONG else LONG_CHUNK


def on_device_of(tensor: Tensor) -> AbstractContextManager[Any]:
    """Launch on the tensor's GPU and its current stream."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def enter_chunks(
    problem: ScanProblem,
    states: Tensor,
    dy: Operand | None = None,
    dlast: Tensor | None = None,
) -> None:
    """Fill ``states`` with the state before each chunk; given dy, with the adjoint behind each.

    Args:
        problem: What is scanned.
        states: ``[B, K, chunks, N, D]``, overwritten.
        dy: Gradient of the output.
        dlast: Gradient of the final state, ``[B, K, N, D]``; zeros if absent.
    """
    p = problem
    if p.chunks == 1:
        states.zero_() if dlast is None else states.copy_(dlast[:, :, None])
        return
    from mmquad.ops.selective_scan import triton_forward as kernels

    reverse = dy is not None
    value, scale, stride = (p.x, p.B, p.B_state) if dy is None else (dy, p.C, p.C_state)
    sums = p.empty(p.batch, p.groups, p.chunks, p.channels)
    kernels.chunk_ends[(p.batch * p.chunks * p.blocks, p.groups)](
        **value.named("value"),
        **scale.named("coefficient"),
        coefficient_state=stride,
        ends_ptr=states,
        sums_ptr=sums,
        REVERSE=reverse,
        **p.arguments(),
    )
    kernels.combine_chunks[(p.batch * p.groups * p.states * p.blocks,)](
        ends_ptr=states,
        sums_ptr=sums,
        A_ptr=p.A,
        initial_ptr=states if dlast is None else dlast,
        channels=p.channels,
        groups=p.groups,
        states=p.states,
        chunks=p.chunks,
        blocks=p.blocks,
        BLOCK=BLOCK,
        INITIAL=dlast is not None,
        REVERSE=reverse,
        **WARP,
    )


def run_outputs(problem: ScanProblem, states: Tensor, y: Operand, merge: bool) -> None:
    """Write every token's output to ``y``, float32; ``states`` become those behind the chunks.

    ``merge`` adds the groups up, in their order, in rows that they share.
    """
    from mmquad.ops.selective_scan import triton_forward as kernels

    p = problem
    # Groups that share rows of y follow one another: in one program if it has the whole sequence
    # to itself, else in one launch each.
    launches, each = (1, p.groups) if merge and p.chunks == 1 else (p.groups, 1)
    at_once = 1 if merge else p.groups
    for first in range(0, 1 if at_once > 1 else launches, 1):
        kernels.outputs[(p.batch * p.chunks * p.blocks, at_once)](
            **p.x.named("x"),
            **p.B.named("B"),
            B_state=p.B_state,
            **p.C.named("C"),
            C_state=p.C_state,
            skip_ptr=p.skip,
            states_ptr=states,
            **y.named("y"),
            groups=p.groups,
            first_group=first,
            groups_each=each,
            merge=int(merge),
            **p.arguments(),
        )


def run_gradients(
    problem: ScanProblem,
    dy: Operand,
    states: Tensor,
    adjoints: Tensor,
    dx: Operand,
    dstep: Operand,
    merge: bool,
    rival: Tensor | None = None,
) -> ScanGradients:
    """All gradients.

    Args:
        problem: What is scanned.
        dy: Gradient of the output.
        states: The state before each chunk, ``[B, K, chunks, N, D]``.
        adjoints: The adjoint behind each chunk; overwritten.
        dx: Where the gradient of x goes.
        dstep: Where that of what enters the softplus goes. With ``merge`` one group's place
            serves all, ``[B, L, D]``.
        merge: Add the groups' dx up, in their order, in rows that they share.
        rival: With windows, the token that each position did not choose, ``[B, K, P]``.
    """
    from mmquad.ops.selective_scan import triton_backward as kernels

    p = problem
    at_once = 1 if merge else p.groups
    tasks = p.batch * p.chunks
    shares = max(1, min(tasks, GRADIENT_PROGRAMS // (p.blocks * at_once)))
    tiles = chunk_length(p.positions) // TILE
    marks = p.empty(at_once, shares * p.blocks, tiles, p.states, BLOCK)
    dBC = p.empty(p.blocks, p.batch, p.length, p.groups, 2 * p.states)
    sums = torch.zeros_like(p.empty(shares, p.groups, p.states + 2, p.channels))
    windowed = rival is not None
    choice = p.empty(p.blocks, p.batch, p.groups, p.length) if windowed else None
    dranks = p.empty(p.batch, p.length, p.groups, p.ranks) if p.ranks else None
    dweight = torch.empty_like(p.weight) if p.weight is not None else None
    for first in range(p.groups if merge else 1):
        kernels.gradients[(shares * p.blocks, at_once)](
            **dy.named("dy"),
            **p.x.named("x"),
            **p.B.named("B"),
            B_state=p.B_state,
            **p.C.named("C"),
            C_state=p.C_state,
            skip_ptr=p.skip,
            states_ptr=states,
            adjoints_ptr=adjoints,
            marks_ptr=marks,
            **dx.named("dx"),
            **dstep.named("dstep"),
            dBC_ptr=dBC,
            dBC_block=dBC.stride(0),
            dBC_batch=dBC.stride(1),
            dBC_group=dBC.stride(3),
            dBC_row=dBC.stride(2),
            sums_ptr=sums,
            rival_ptr=rival if rival is not None else adjoints,
            choice_ptr=choice if choice is not None else adjoints,
            groups=p.groups,
            tasks=tasks,
            first_group=first,
            merge=int(merge),
            length=p.length,
            WINDOWED=windowed,
            **p.arguments(),
        )
        if dranks is not None and dweight is not None:
            _project_back(p, first, dstep.tensor, dranks, dweight)
    summed = sums.sum(0)
    return ScanGradients(
        BC=dBC[0] if p.blocks == 1 else dBC.sum(0),
        ranks=dranks,
        weight=dweight,
        # Copies: results of an op must not share memory.
        bias=summed[:, p.states].clone(),
        A=summed[:, : p.states].clone(),
        skip=summed[:, p.states + 1].clone(),
        choice=None if choice is None else choice.sum(0),
    )


def _project_back(
    problem: ScanProblem, group: int, dstep: Tensor, dranks: Tensor, dweight: Tensor
) -> None:
    """Gradients of one direction's ranks and ``weight`` from those of its raw steps ``[B, L, D]``.

    The ranks of all samples lie in rows of one length, so that samples need no axis of their own.
    """
    from mmquad.ops.selective_scan import triton_projection as kernels

    p = problem
    assert p.weight is not None
    rows = p.batch * p.length
    rank_blocks = -(-p.ranks // RANKS)
    kernels.project_to_ranks[(-(-rows // RANK_ROWS), rank_blocks)](
        dstep_ptr=dstep,
        weight_ptr=p.weight[group],
        dz_ptr=dranks[:, :, group],
        dz_row=dranks.stride(1),
        rows=rows,
        channels=p.channels,
        ranks=p.ranks,
        ROWS=RANK_ROWS,
        RANKS=RANKS,
        CHANNELS=RANK_CHANNELS,
        **PRODUCT,
    )
    parts = min(WEIGHT_PARTS, -(-rows // WEIGHT_ROWS_EACH))
    partial = p.empty(parts, p.ranks, p.channels)
    kernels.project_to_weights[(-(-p.channels // WEIGHT_CHANNELS), rank_blocks, parts)](
        dstep_ptr=dstep,
        z_ptr=p.step.tensor[:, :, group],
        z_row=p.step.row,
        dweight_ptr=partial,
        rows=rows,
        rows_each=-(-rows // parts),
        channels=p.channels,
        ranks=p.ranks,
        ROWS=WEIGHT_ROWS,
        RANKS=RANKS,
        CHANNELS=WEIGHT_CHANNELS,
        **PRODUCT,
    )
    torch.sum(partial, 0, out=dweight[group])
