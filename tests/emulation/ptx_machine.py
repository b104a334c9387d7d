"""Kernels in PTX, run on the host: a block after the other, its threads side by side.

Threads that take different branches run in turns, those furthest behind first, until they meet
again. What this does not model: the time anything takes, the orders in which a device may run
threads (races are faults instead), and the rounding of ``ex2.approx``, which the caller chooses.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from ptx_arithmetic import SIGNED, Arithmetic, exp2_rounded
from ptx_memory import UNSIGNED, Access, DeviceError, Memory, Region
from ptx_program import Instruction, Kernel

__all__ = ["Launch"]

WARP = 32
SHARED = 1 << 20  # where dynamic shared memory begins, in its own space


class Launch(NamedTuple):
    """One launch.

    Attributes:
        kernel: What to run.
        grid: Blocks along x, y and z.
        threads: Of a block, a multiple of 32.
        shared_bytes: Shared memory of a block; it holds NaN at first.
        parameters: The kernel's, as they lie in memory.
        memory: What it may touch.
        when: A number of its own for every launch.
        exp2: What ``ex2.approx`` computes, float32.
    """

    kernel: Kernel
    grid: Sequence[int]
    threads: int
    shared_bytes: int
    parameters: Sequence[bytes]
    memory: Memory
    when: int
    exp2: Callable[[np.ndarray], np.ndarray] = exp2_rounded

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


class _Block:
    """Registers are arrays over the threads: unsigned integers of their width, or bool."""

    def __init__(
        self, launch: Launch, number: int, place: Sequence[int], extent: Sequence[int]
    ) -> None:
        self.launch, self.kernel, self.number = launch, launch.kernel, number
        self.threads = np.arange(launch.threads)
        self.registers = {"%tid.x": self.threads.astype(np.uint32)}
        for i, axis in enumerate("xyz"):
            self.registers[f"%ctaid.{axis}"] = np.full(launch.threads, place[i], np.uint32)
            self.registers[f"%nctaid.{axis}"] = np.full(launch.threads, extent[i], np.uint32)
        self.registers["%ntid.x"] = np.full(launch.threads, launch.threads, np.uint32)
        size = -(-launch.shared_bytes // 4) * 4
        self.shared = Region(SHARED, np.full(size, 0xFF, np.uint8))
        self.arithmetic = Arithmetic(self.value, launch.exp2)
        self.epoch = 0
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
        while place < stop:
            instruction = self.kernel.code[place]
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
            self._execute(instruction, mask)
        self.places[self.active] = place

    def _guarded(self, instruction: Instruction) -> np.ndarray:
        if instruction.guard is None:
            return self.active
        guard = self.registers[instruction.guard]
        return self.active & (~guard if instruction.negated else guard)

    # Operands and results.

    def value(self, operand: str, kind: str) -> np.ndarray:
        """Of a register, an immediate or the name of shared memory, as ``s32``, ``f32``, ..."""
        if kind == "pred":
            truth = np.full(len(self.threads), operand in ("-1", "1", "true"))
            return self.registers[operand] if operand.startswith("%") else truth
        width = int(kind[1:])
        if operand in self.registers:
            bits = self.registers[operand].astype(UNSIGNED[width], copy=False)
        elif operand.startswith("%"):
            raise DeviceError(f"register {operand} is read before it is written")
        else:
            bits = np.full(len(self.threads), _immediate(operand, width), UNSIGNED[width])
        return bits.view({"s": SIGNED, "f": {32: np.float32}}.get(kind[0], UNSIGNED)[width])

    def assign(self, register: str, value: np.ndarray, mask: np.ndarray) -> None:
        if value.dtype != bool:
            value = value.view(UNSIGNED[value.itemsize * 8])
        if not mask.all() and register in self.registers:
            value = np.where(mask, value, self.registers[register].astype(value.dtype))
        if register != "_":
            self.registers[register] = value

    # Instructions.

    def _execute(self, instruction: Instruction, mask: np.ndarray) -> None:
        method = getattr(self, f"_{instruction.opcode}", None)
        if method is not None:
            method(instruction, mask)
            return
        target, *sources = instruction.operands
        self.assign(target, self.arithmetic.result(instruction, sources), mask)

    def _mov(self, i: Instruction, mask: np.ndarray) -> None:
        target, source = i.operands
        if isinstance(target, tuple):
            part = int(i.type[1:]) // len(target)
            value = self.value(source, i.type)
            for n, register in enumerate(target):
                shifted = value >> value.dtype.type(n * part)
                self.assign(register, shifted.astype(UNSIGNED[part]), mask)
        elif isinstance(source, tuple):
            part = int(i.type[1:]) // len(source)
            whole = UNSIGNED[part * len(source)]
            parts = [self.value(s, f"b{part}").astype(whole) for s in source]
            joined = sum(p << whole(n * part) for n, p in enumerate(parts))
            self.assign(target, joined, mask)
        else:
            self.assign(target, self.value(source, i.type).copy(), mask)

    def _shfl(self, i: Instruction, mask: np.ndarray) -> None:
        warps = mask.reshape(-1, WARP)
        if "bfly" not in i.modifiers or (warps.any(1) != warps.all(1)).any():
            raise DeviceError(f"not a butterfly of whole warps: {i.text}")
        target, source, offset, *_ = i.operands
        lanes = self.threads ^ self.value(offset, "s32")
        self.assign(target.split("|")[0], self.value(source, "b32")[lanes], mask)

    # Memory.

    def _access(self, mask: np.ndarray, text: str) -> Access:
        return Access(self.launch.when, self.number, self.epoch, self.threads[mask], text)

    def _addresses(self, operand: str, space: str) -> np.ndarray:
        base, _, offset = operand.strip("[] ").replace(" ", "").partition("+")
        start = self.value(base, "b32" if space == "shared" else "b64").astype(np.int64)
        return start + int(offset or 0)

    def _region(self, space: str, addresses: np.ndarray, access: Access) -> Region:
        return self.shared if space == "shared" else self.launch.memory.region(addresses, access)

    def _ld(self, i: Instruction, mask: np.ndarray) -> None:
        targets, source = i.operands
        targets = targets if isinstance(targets, tuple) else (targets,)
        width = int(i.type[1:])
        if i.modifiers[0] == "param":
            name, _, offset = source.strip("[]").partition("+")
            data = self.launch.parameters[int(name.rpartition("_")[2])][int(offset or 0) :]
            value = np.frombuffer(data[: width // 8], UNSIGNED[width])
            self.assign(targets[0], np.repeat(value, len(self.threads)), mask)
            return
        addresses = self._addresses(source, i.modifiers[0])
        self._refuse_misaligned_vector(addresses[mask], len(targets) * width // 8, i)
        for n, register in enumerate(targets):
            value = np.zeros(len(self.threads), UNSIGNED[width])
            if mask.any():
                at, access = addresses[mask] + n * width // 8, self._access(mask, i.text)
                value[mask] = self._region(i.modifiers[0], at, access).read(at, width, access)
            self.assign(register, value, mask)

    def _st(self, i: Instruction, mask: np.ndarray) -> None:
        target, sources = i.operands
        sources = sources if isinstance(sources, tuple) else (sources,)
        width = int(i.type[1:])
        addresses = self._addresses(target, i.modifiers[0])
        self._refuse_misaligned_vector(addresses[mask], len(sources) * width // 8, i)
        for n, source in enumerate(sources):
            if mask.any():
                at, access = addresses[mask] + n * width // 8, self._access(mask, i.text)
                value = self.value(source, f"b{width}")[mask]
                self._region(i.modifiers[0], at, access).write(at, value, access)

    def _refuse_misaligned_vector(self, addresses: np.ndarray, size: int, i: Instruction) -> None:
        if (addresses % size).any():
            raise DeviceError(f"misaligned: {i.text}")

    def _stmatrix(self, i: Instruction, mask: np.ndarray) -> None:
        """Matrices of 8 x 8 numbers of 16 bits: lanes 8 m to 8 m + 7 know where the rows of the
        m-th one begin; lane l holds two neighbours of row l // 4."""
        target, sources = i.operands
        addresses = self._addresses(target, "shared").reshape(-1, WARP)
        lanes = np.arange(WARP)
        for m, source in enumerate(sources):
            at = addresses[:, 8 * m + lanes // 4] + 4 * (lanes % 4)
            access = self._access(mask, i.text)
            self.shared.write(at.flatten()[mask], self.value(source, "b32")[mask], access)


def _immediate(text: str, width: int) -> int:
    if text.startswith(("0f", "0F")):
        return int(text[2:], 16)
    if text[0].isdigit() or text[0] == "-":
        return int(text, 0) & ((1 << width) - 1)
    return SHARED  # the only symbol in these kernels is that of dynamic shared memory
