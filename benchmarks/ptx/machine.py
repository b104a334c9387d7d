"""Kernels in PTX, run on the host: a block after the other, its threads side by side.

Threads that take different branches run in turns, those furthest behind first, until they meet
again. What this does not model: the time anything takes, the orders in which a device may run
threads (races are faults instead), and the rounding of ``ex2.approx``, which the caller chooses.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.ptx.arithmetic import Arithmetic, exp2_rounded
from benchmarks.ptx.matrices import WARP
from benchmarks.ptx.memory import DeviceError, Memory
from benchmarks.ptx.program import Instruction, Kernel
from benchmarks.ptx.threads import Given
from benchmarks.ptx.warps import Warps

__all__ = ["Launch"]


class Launch(NamedTuple):
    """One launch.

    Attributes:
        kernel: What to run.
        grid: Blocks along x, y and z.
        threads: Of a block, a multiple of 32.
        shared_bytes: Shared memory of a block beyond the kernel's own; it holds NaN at first.
        parameters: The kernel's, as they lie in memory.
        memory: What it may touch.
        when: A number of its own for every launch.
        exp2: What ``ex2.approx`` computes, float32.
        visits: For every instruction, how many warps came by it: added up here.
    """

    kernel: Kernel
    grid: Sequence[int]
    threads: int
    shared_bytes: int
    parameters: Sequence[bytes]
    memory: Memory
    when: int
    exp2: Callable[[np.ndarray], np.ndarray] = exp2_rounded
    visits: np.ndarray | None = None

    def run(self) -> None:
        """Run all blocks.

        Raises:
            DeviceError: A device would fail here, or might compute something else.
        """
        name, extent = self.kernel.name, (*self.grid, 1, 1)[:3]
        if self.threads % WARP or self.threads > 1024 or not all(0 < n < 2**31 for n in extent):
            raise DeviceError(
                f"{name}: a device would refuse {self.threads} threads, grid {extent}"
            )
        if [len(parameter) for parameter in self.parameters] != self.kernel.widths:
            raise DeviceError(f"{name}: its parameters have {self.kernel.widths} bytes")
        with np.errstate(all="ignore"):
            for number, place in enumerate(np.ndindex(*extent[::-1])):
                _Block(self, number, place[::-1], extent).run()


class _Block(Warps):
    """Its threads take turns."""

    def __init__(
        self, launch: Launch, number: int, place: Sequence[int], extent: Sequence[int]
    ) -> None:
        axes = {f"%ctaid.{axis}": place[n] for n, axis in enumerate("xyz")}
        axes |= {f"%nctaid.{axis}": extent[n] for n, axis in enumerate("xyz")}
        shared = launch.kernel.shared_places()
        given = Given(
            launch.threads, launch.shared_bytes, launch.parameters, launch.memory, *shared
        )
        super().__init__(given, Arithmetic(self.value, launch.exp2), axes, (launch.when, number))
        self.kernel, self.visits = launch.kernel, launch.visits
        # Where every thread goes on; past the end of the code when it has returned.
        self.places = np.zeros(launch.threads, np.int64)
        self.waiting = np.zeros(launch.threads, bool)
        self.active = np.ones(launch.threads, bool)

    def run(self) -> None:
        end = len(self.kernel.code)
        while True:
            ready = (self.places < end) & ~self.waiting
            if not ready.any():
                if not self.waiting.any():
                    return
                if len(np.unique(self.places[self.waiting])) > 1:
                    raise DeviceError(f"{self.kernel.name}: threads wait at different barriers")
                self.waiting[:] = False
                self.epoch += 1
                continue
            place = self.places[ready].min()
            self.active = ready & (self.places == place)
            self._run_together(int(place))

    def _run_together(self, place: int) -> None:
        """Active threads, until they part, stop, or come past others that are behind them."""
        others = self.places[~self.active & (self.places < len(self.kernel.code))]
        others = np.sort(others[others > place])
        stop = int(others[0]) if len(others) else len(self.kernel.code) + 1
        warps = np.count_nonzero(self.active.reshape(-1, WARP).any(1))
        while place < stop:
            instruction = self.kernel.code[place]
            if self.visits is not None:
                self.visits[place] += warps
            place += 1
            mask = self._guarded(instruction)
            if instruction.opcode == "bra":
                target = self.kernel.labels[instruction.operands[0]]
                if not mask.any():
                    continue
                if (mask == self.active).all():
                    place = target
                    continue
                self.places[self.active] = place
                self.places[mask] = target
                return
            if instruction.opcode == "ret":
                self.places[self.active] = place
                self.places[mask] = len(self.kernel.code)
                return
            if instruction.opcode == "bar":
                self.waiting |= mask
                self.places[self.active] = place
                return
            self.execute(instruction, mask)
        self.places[self.active] = place

    def _guarded(self, instruction: Instruction) -> np.ndarray:
        if instruction.guard is None:
            return self.active
        guard = self.registers[instruction.guard]
        return self.active & (~guard if instruction.negated else guard)
