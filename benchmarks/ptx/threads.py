"""What the threads of a block hold, and what an instruction does for each of them on its own."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.ptx.arithmetic import SIGNED, Arithmetic
from benchmarks.ptx.memory import UNSIGNED, Access, DeviceError, Memory, Region
from benchmarks.ptx.program import Instruction

__all__ = ["Given", "Threads"]

# Where shared memory begins, and a parameter's bytes, each in a space of its own.
SHARED = 1 << 20
PARAMETER = 1 << 40


class Given(NamedTuple):
    """To a block, by the launch and the kernel: variables begin at ``symbols`` of shared memory,
    ``own_bytes`` of which are the kernel's own."""

    threads: int
    shared_bytes: int
    parameters: Sequence[bytes]
    memory: Memory
    symbols: dict[str, int]
    own_bytes: int


class Threads:
    """Registers are arrays over the threads: unsigned integers of their width, or bool.

    Args:
        given: By the launch.
        arithmetic: Reads operands by :meth:`value`.
        axes: Special registers that are equal for all threads.
        place: Number of the launch, and of the block in it.
    """

    def __init__(
        self, given: Given, arithmetic: Arithmetic, axes: dict[str, int], place: tuple[int, int]
    ) -> None:
        self.given, self.arithmetic, self.place = given, arithmetic, place
        self.threads = np.arange(given.threads)
        self.registers = {"%tid.x": self.threads.astype(np.uint32)}
        for name, value in {**axes, "%ntid.x": given.threads}.items():
            self.registers[name] = np.full(given.threads, value, np.uint32)
        size = given.own_bytes + -(-given.shared_bytes // 4) * 4
        self.shared = Region(SHARED, np.full(size, 0xFF, np.uint8))
        self.epoch = 0

    def execute(self, instruction: Instruction, mask: np.ndarray) -> None:
        method = getattr(self, f"_{instruction.opcode}", None)
        if method is not None:
            method(instruction, mask)
            return
        target, *sources = instruction.operands
        self.assign(target, self.arithmetic.result(instruction, sources), mask)

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
            value = self._immediate(operand, width)
            bits = np.full(len(self.threads), value, UNSIGNED[width])
        return bits.view({"s": SIGNED, "f": {32: np.float32}}.get(kind[0], UNSIGNED)[width])

    def _immediate(self, text: str, width: int) -> int:
        if text.startswith(("0f", "0F")):
            return int(text[2:], 16)
        if text[0].isdigit() or text[0] == "-":
            return int(text, 0) & ((1 << width) - 1)
        if text in self.given.symbols:
            return SHARED + self.given.symbols[text]
        if "_param_" in text:
            return PARAMETER + (int(text.rpartition("_")[2]) << 20)
        raise DeviceError(f"{text} is not declared")

    def assign(self, register: str, value: np.ndarray, mask: np.ndarray) -> None:
        if value.dtype != bool:
            value = value.view(UNSIGNED[value.itemsize * 8])
        if not mask.all() and register in self.registers:
            value = np.where(mask, value, self.registers[register].astype(value.dtype))
        if register != "_":
            self.registers[register] = value

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

    # Memory.

    def _access(self, mask: np.ndarray, text: str) -> Access:
        return Access(*self.place, self.epoch, self.threads[mask], text)

    def _addresses(self, operand: str, space: str) -> np.ndarray:
        base, _, offset = operand.strip("[] ").replace(" ", "").partition("+")
        start = self.value(base, "b32" if space == "shared" else "b64").astype(np.int64)
        return start + int(offset or 0)

    def _region(self, space: str, addresses: np.ndarray, access: Access) -> Region:
        return self.shared if space == "shared" else self.given.memory.region(addresses, access)

    def _ld(self, i: Instruction, mask: np.ndarray) -> None:
        targets, source = i.operands
        targets = targets if isinstance(targets, tuple) else (targets,)
        width = int(i.type[1:])
        if i.modifiers[0] == "param":
            self._load_parameter(i, targets, mask)
            return
        addresses = self._addresses(source, i.modifiers[0])
        self._refuse_misaligned_vector(addresses[mask], len(targets) * width // 8, i)
        for n, register in enumerate(targets):
            value = np.zeros(len(self.threads), UNSIGNED[width])
            if mask.any():
                at, access = addresses[mask] + n * width // 8, self._access(mask, i.text)
                value[mask] = self._region(i.modifiers[0], at, access).read(at, width, access)
            self.assign(register, value, mask)

    def _load_parameter(self, i: Instruction, targets: Sequence[str], mask: np.ndarray) -> None:
        """The same for all threads, as the addresses of parameters are."""
        width = int(i.type[1:]) // 8
        place, start = divmod(int(self._addresses(i.operands[1], "param")[0]), 1 << 20)
        data = self.given.parameters[place - (PARAMETER >> 20)]
        if start + len(targets) * width > len(data):
            raise DeviceError(f"out of bounds: {i.text}")
        for n, register in enumerate(targets):
            value = np.frombuffer(data, UNSIGNED[8 * width], 1, start + n * width)
            self.assign(register, np.repeat(value, len(self.threads)), mask)

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
