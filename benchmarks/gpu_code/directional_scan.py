"""Launches of the CUDA kernels of ``directional_scan``, on random inputs.

In kernels/csrc/directional_scan/cuda, problem.h has the structs and launch.cu the blocks.
"""

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.gpu_code.compilation import CompiledKernel
from benchmarks.ptx.machine import Launch
from benchmarks.ptx.memory import Memory
from benchmarks.ptx.program import Kernel

__all__ = ["FEW_RANKS", "MANY_RANKS", "SOURCE", "Work", "kernel_works"]

SOURCE = Path(__file__).parents[2] / "kernels/csrc/directional_scan/cuda/launch.cu"
CHUNK, TILE = 64, 8
CHANNELS, DIRECTIONS = 64, 2
# Of the first and the third stage of QuadMamba-small.
FEW_RANKS, MANY_RANKS = 6, 24
BFLOAT16 = 2


class Work(NamedTuple):
    """What a kernel is measured at.

    Attributes:
        name: In the table of figures.
        symbol: A part of the mangled name that no other kernel has; works may share a kernel.
        unit: What the figures are per: what one of ``units`` is.
        threads: Of a block.
        shared_bytes: Of a block, given by the launch.
        units: That a launch works through, by its number of chunks.
        launch: Makes a launch, from the kernel and its number of chunks.
        chunks: Two numbers; what the second launch executes more is counted. A launch over nothing
            does all that a block does once.
    """

    name: str
    symbol: str
    unit: str
    threads: int
    shared_bytes: int
    units: Callable[[int], int]
    launch: Callable[[Kernel, int], Launch]
    chunks: tuple[int, int]

    def find(self, kernels: Mapping[str, CompiledKernel]) -> CompiledKernel:
        """Its kernel among those of the source file.

        Raises:
            ValueError: None has the symbol in its name, or several have.
        """
        found = [kernel for name, kernel in kernels.items() if self.symbol in name]
        if len(found) != 1:
            raise ValueError(f"{self.symbol!r} is in the names of {len(found)} kernels, not of one")
        return found[0]


def kernel_works() -> list[Work]:
    """Of every kernel: forward, backward, both ways of the local phase for each of the numbers of
    states that there are kernels for, and the combination of segments. With one state also for many
    ranks, and the backward with windows."""
    works = []
    for states in (1, 4, 16):
        works += _phases(states, FEW_RANKS)
    symbol, shared = "backward_kernelILi1E", _backward_bytes(1, FEW_RANKS)
    windows = _element_work("backward, N=1, windows", symbol, 1, FEW_RANKS, shared)
    return [*works, *_phases(1, MANY_RANKS), windows, _combination()]


def _staged_bytes(states: int, ranks: int) -> int:
    return 4 * (CHUNK + (ranks + 2 * states) * (TILE + 4))


def _backward_bytes(states: int, ranks: int) -> int:
    ends = (CHUNK // TILE - 1) * states * CHANNELS
    sums = CHANNELS // 32 * (2 * states + 1) * TILE
    return _staged_bytes(states, ranks) + 4 * (ends + TILE * (CHANNELS + 4) + sums)


def _phases(states: int, ranks: int) -> list[Work]:
    staged = _staged_bytes(states, ranks)
    kind = f"N={states}" if ranks == FEW_RANKS else f"N={states}, R={ranks}"
    return [
        _element_work(f"{name}, {kind}", symbol, states, ranks, shared)
        for name, symbol, shared in (
            ("forward", f"forward_kernelILi{states}E", staged),
            ("backward", f"backward_kernelILi{states}E", _backward_bytes(states, ranks)),
            ("local forward", f"local_kernelILi{states}ELb0E", staged),
            ("local backward", f"local_kernelILi{states}ELb1E", staged),
        )
    ]


def _element_work(name: str, symbol: str, states: int, ranks: int, shared: int) -> Work:
    # The local phase takes all directions at once; a merged sum is made one after the other, and
    # the second is looked at, which adds to what the first has left.
    directions = DIRECTIONS if name.startswith("local") else 1

    def units(chunks: int) -> int:
        return chunks * CHUNK * CHANNELS * directions

    def launch(kernel: Kernel, chunks: int) -> Launch:
        problem = _Problem(states, ranks, chunks, span=max(chunks, 1))
        parameters = problem.parameters(name)
        return Launch(kernel, [directions], CHANNELS, shared, parameters, problem.memory, 0)

    unit = "element and direction"
    return Work(name, symbol, unit, CHANNELS, shared, units, launch, (0, 1))


def _combination() -> Work:
    def launch(kernel: Kernel, segments: int) -> Launch:
        problem = _Problem(1, FEW_RANKS, segments, span=1)
        parameters = problem.parameters("combine")
        return Launch(kernel, [1], 128, 0, parameters, problem.memory, 0)

    def units(segments: int) -> int:
        return segments * CHANNELS * DIRECTIONS

    unit = "segment, channel, state and direction"
    return Work("combine", "combine_kernel", unit, 128, 0, units, launch, (8, 16))


class _Problem:
    """One sample; all chunks are full."""

    def __init__(self, states: int, ranks: int, chunks: int, span: int) -> None:
        self.memory = Memory()
        length, segments = chunks * CHUNK, max(chunks // span, 1)
        d, k, rows = CHANNELS, DIRECTIONS, 2 + states + ranks
        columns = ranks + 2 * states
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        x, z, dy = normal(length, d).bfloat16(), normal(length, k, columns), normal(length, d)
        parameters = normal(k, rows, d)
        parameters[:, 2 : 2 + states] = -parameters[:, 2 : 2 + states].exp()
        tables = [torch.randperm(length, generator=generator) for _ in range(2 * k)]
        order, rival = torch.stack(tables).int().view(2, k, length)
        floats = {
            "y": (length, d),
            "states": (k, chunks, states, d),
            "carry": (k, segments, states, d),
            "decay": (k, segments, d),
            "scores": (k, length),
            "dx": (length, d),
            "dz": (length, k, columns),
            "dparameters": (k, segments, rows, d),
        }
        self._tensors = {
            "x": x,
            "z": z,
            "dy": dy,
            "parameters": parameters,
            "order": order,
            "rival": rival,
            **{name: torch.zeros(shape) for name, shape in floats.items()},
        }
        for tensor in self._tensors.values():
            self.memory.add(tensor)
        sizes = (1, length, length, d, k, states, ranks, 1, CHANNELS, span)
        self._sizes = struct.pack("10i", *sizes)

    def _pointers(self, names: str) -> bytes:
        return b"".join(
            struct.pack("Q", self._tensors[name].data_ptr() if name != "null" else 0)
            for name in names.split()
        )

    def parameters(self, name: str) -> list[bytes]:
        merge = struct.pack("?", True)
        inputs = self._pointers("x") + struct.pack("i4x", BFLOAT16)
        inputs += self._pointers("z parameters order")
        if name == "combine":
            given = [self._pointers(each) for each in ("parameters", "carry", "decay")]
            return [self._sizes, *given, struct.pack("?", False)]
        if name.startswith("local"):
            scratch = [self._pointers("carry"), self._pointers("decay")]
            dy = self._pointers("dy" if name.startswith("local backward") else "null")
            return [self._sizes, inputs, dy, merge, *scratch]
        if name.startswith("forward"):
            outputs = self._pointers("y") + merge + bytes(7) + self._pointers("states null null")
            return [self._sizes, inputs, outputs, struct.pack("i", 1), struct.pack("i", 1)]
        gradients = self._pointers("dy") + merge + bytes(7)
        rival, scores = ("rival", "scores") if name.endswith("windows") else ("null", "null")
        gradients += self._pointers(f"states {rival} dx dz dparameters {scores} null null")
        return [self._sizes, inputs, gradients, struct.pack("i", 1)]
