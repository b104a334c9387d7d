"""Instructions that the lanes of a warp carry out together, and copies that take their time."""

from typing import Any

import numpy as np

from benchmarks.ptx import matrices
from benchmarks.ptx.copies import Copies
from benchmarks.ptx.matrices import WARP
from benchmarks.ptx.memory import DeviceError
from benchmarks.ptx.program import Instruction
from benchmarks.ptx.threads import Threads

__all__ = ["Warps"]


class Warps(Threads):
    """Arguments as of :class:`Threads`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.copies = Copies(len(self.threads), self.shared)

    def _lanes(self, register: str) -> np.ndarray:
        return self.value(register, "b32").reshape(-1, WARP)

    def _refuse_parts_of_warps(self, i: Instruction, mask: np.ndarray) -> None:
        warps = mask.reshape(-1, WARP)
        if (warps.any(1) != warps.all(1)).any():
            raise DeviceError(f"not of whole warps: {i.text}")

    def _shfl(self, i: Instruction, mask: np.ndarray) -> None:
        self._refuse_parts_of_warps(i, mask)
        target, source, by, clamp, _ = i.operands
        lane, offset = self.threads % WARP, self.value(by, "s32")
        bits = self.value(clamp, "s32")
        segment = bits >> 8 & WARP - 1
        last = lane & segment | bits & WARP - 1 & ~segment
        if "up" in i.modifiers:
            other = lane - offset
            inside = other >= last
        else:
            first = lane & segment
            other = {
                "down": lane + offset,
                "bfly": lane ^ offset,
                "idx": first | offset & ~segment,
            }[i.modifiers[1]]
            inside = other <= last
        lanes = self.threads - lane + np.where(inside, other, lane)
        register, _, valid = target.partition("|")
        self.assign(register, self.value(source, "b32")[lanes], mask)
        if valid:
            self.assign(valid, inside, mask)

    def _mma(self, i: Instruction, mask: np.ndarray) -> None:
        self._refuse_parts_of_warps(i, mask)
        result, *factors, added = i.operands
        shape, to, kind, other, summed = (i.modifiers[n] for n in (2, -4, -3, -2, -1))
        per_register = {"bf16": 8, "f16": 8, "tf32": 4}.get(kind)
        if (to, other, summed, i.modifiers[3:5]) != ("f32", kind, "f32", ("row", "col")) or (
            per_register is None or shape != f"m16n8k{per_register * len(factors[1])}"
        ):
            raise DeviceError(f"not known here: {i.text}")
        operands = ([self._lanes(r) for r in part] for part in (*factors, added))
        for register, value in zip(result, matrices.multiply_add(kind, *operands), strict=True):
            self.assign(register, value.ravel(), mask)

    def _movmatrix(self, i: Instruction, mask: np.ndarray) -> None:
        self._refuse_parts_of_warps(i, mask)
        target, source = i.operands
        self.assign(target, matrices.transpose(self._lanes(source)).ravel(), mask)

    def _ldmatrix(self, i: Instruction, mask: np.ndarray) -> None:
        """Lanes 8 m to 8 m + 7 know where the rows of the m-th matrix begin."""
        self._refuse_parts_of_warps(i, mask)
        targets, source = i.operands
        targets = targets if isinstance(targets, tuple) else (targets,)
        addresses = self._addresses(source, "shared").reshape(-1, WARP)
        known = addresses[:, : 8 * len(targets)][mask.reshape(-1, WARP).any(1)]
        self._refuse_misaligned_vector(known, 16, i)
        for m, target in enumerate(targets):
            if "trans" not in i.modifiers:
                value = self._read_shared(matrices.row_words(addresses, m), mask, i)
            else:
                low, high = (
                    self._read_shared(at, mask, i) >> np.tile(shift, len(at)) & np.uint32(0xFFFF)
                    for at, shift in matrices.select_columns(addresses, m)
                )
                value = low | high << np.uint32(16)
            self.assign(target, value, mask)

    def _read_shared(self, at: np.ndarray, mask: np.ndarray, i: Instruction) -> np.ndarray:
        value = np.zeros(len(self.threads), np.uint32)
        if mask.any():
            access = self._access(mask, i.text)
            value[mask] = self.shared.read(at.ravel()[mask], 32, access)
        return value

    def _stmatrix(self, i: Instruction, mask: np.ndarray) -> None:
        self._refuse_parts_of_warps(i, mask)
        target, sources = i.operands
        addresses = self._addresses(target, "shared").reshape(-1, WARP)
        for m, source in enumerate(sources):
            at = matrices.row_words(addresses, m).ravel()[mask]
            self.shared.write(at, self.value(source, "b32")[mask], self._access(mask, i.text))

    def _cp(self, i: Instruction, mask: np.ndarray) -> None:
        """``cp.async``; where fewer bytes are given than copied, zeros follow."""
        if "commit_group" in i.modifiers:
            self.copies.commit(mask)
            return
        if "wait_group" in i.modifiers or "wait_all" in i.modifiers:
            allowed = int(i.operands[0]) if i.operands else -1
            self.copies.wait(mask, allowed, self._access(mask, i.text))
            return
        target, source, size, *given = i.operands
        size = int(size)
        count = self.value(given[0] if given else str(size), "s32")
        to, start = self._addresses(target, "shared"), self._addresses(source, "global")
        self._refuse_misaligned_vector(to[mask], size, i)
        self._refuse_misaligned_vector(start[mask & (count > 0)], size, i)
        if ((count < 0) | (count > size) | (count % 4 != 0))[mask].any():
            raise DeviceError(f"not a number of words: {i.text}")
        words = np.zeros((len(self.threads), size // 4), np.uint32)
        for n in range(size // 4):
            reading = mask & (count > 4 * n)
            if reading.any():
                at, access = start[reading] + 4 * n, self._access(reading, i.text)
                words[reading, n] = self.given.memory.region(at, access).read(at, 32, access)
        if mask.any():
            self.copies.start(to[mask], words[mask], self._access(mask, i.text))
