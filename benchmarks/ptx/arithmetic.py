"""What the instructions of PTX compute, over all threads of a block at once."""

import operator
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.ptx.memory import UNSIGNED, DeviceError
from benchmarks.ptx.program import Instruction

__all__ = ["SIGNED", "Arithmetic", "exp2_rounded"]


SIGNED = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
COMPARISONS = {name: getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne")}
# True also where one of two floats is NaN: what is not the opposite. Between numbers, "ne" is not.
OPPOSITES = {"ltu": "ge", "leu": "gt", "gtu": "le", "geu": "lt", "equ": "ne"}
LOGIC = {"and": operator.and_, "or": operator.or_, "xor": operator.xor, "not": operator.invert}


def _compare(name: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype == np.float32 and name in ("ne", "neu"):
        return (a != b) & ((name == "neu") | ~(np.isnan(a) | np.isnan(b)))
    if name in OPPOSITES:
        return ~COMPARISONS[OPPOSITES[name]](a, b) | np.isnan(a) | np.isnan(b)
    return COMPARISONS[name](a, b)


def exp2_rounded(x: np.ndarray) -> np.ndarray:
    """To the nearest float32; denormal results are flushed."""
    result = np.exp2(x.astype(np.float64)).astype(np.float32)
    return np.where(result < np.finfo(np.float32).tiny, np.float32(0), result)


def _to_bfloat16(x: np.ndarray) -> np.ndarray:
    """Bits of the nearest bfloat16, ties to even."""
    bits = x.view(np.uint32)
    odd = bits >> np.uint32(16) & np.uint32(1)
    nearest = bits + np.uint32(0x7FFF) + odd >> np.uint32(16)
    return np.where(np.isnan(x), np.uint32(0x7FFF), nearest).astype(np.uint16)


def _to_float16(x: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(x), np.uint16(0x7FFF), x.astype(np.float16).view(np.uint16))


NARROW: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    name + pair: function
    for name, function in (("bf16", _to_bfloat16), ("f16", _to_float16))
    for pair in ("", "x2")
}


class Arithmetic(NamedTuple):
    """``value`` reads an operand as a type (``s32``, ``f32``, ``pred``, ...)."""

    value: Callable[[str, str], np.ndarray]
    exp2: Callable[[np.ndarray], np.ndarray]

    def result(self, i: Instruction, sources: list[str]) -> np.ndarray:
        kind = i.type
        if i.opcode == "setp":
            return _compare(i.modifiers[0], *(self.value(s, kind) for s in sources))
        if i.opcode in LOGIC:
            return LOGIC[i.opcode](*(self.value(s, kind) for s in sources))
        if i.opcode == "selp":
            first, second = (self.value(s, kind) for s in sources[:2])
            return np.where(self.value(sources[2], "pred"), first, second)
        if i.opcode == "cvt":
            if i.modifiers[1] in NARROW and i.type == "f32":
                return self._narrow(i.modifiers, sources)
            return self._convert(i.modifiers, sources[0])
        if i.opcode == "cvta":
            return self.value(sources[0], kind)
        if "wide" in i.modifiers:
            wide = f"{kind[0]}{2 * int(kind[1:])}"
            a, b = (self.value(s, kind).astype(self.value("0", wide).dtype) for s in sources[:2])
            return a * b if i.opcode == "mul" else a * b + self.value(sources[2], wide)
        values = [self.value(s, kind) for s in sources]
        if kind[0] == "f":
            return self._compute_float(i, values)
        return _compute_integer(i, values)

    def _compute_float(self, i: Instruction, values: list[np.ndarray]) -> np.ndarray:
        if i.opcode == "ex2":
            return self.exp2(values[0])
        wide = [v.astype(np.float64) for v in values]
        exact = {
            "add": lambda a, b: a + b,
            "sub": lambda a, b: a - b,
            "mul": lambda a, b: a * b,
            "fma": lambda a, b, c: a * b + c,
            "div": lambda a, b: a / b,
            "rcp": lambda a: 1 / a,
            "abs": np.abs,
            "neg": np.negative,
            "max": np.fmax,
            "min": np.fmin,
        }[i.opcode](*wide)
        result = exact.astype(np.float32)
        if "rz" in i.modifiers:
            too_large = np.abs(result) > np.abs(exact)
            result = np.where(too_large, np.nextafter(result, np.float32(0)), result)
        return result

    def _narrow(self, modifiers: tuple[str, ...], sources: list[str]) -> np.ndarray:
        """One float32, or two into one register, the first into its upper half."""
        if modifiers[0] != "rn" or len(modifiers) != 3:
            raise DeviceError(f"conversion {modifiers} is not known here")
        to = modifiers[1].removesuffix("x2")
        parts = [NARROW[to](self.value(source, "f32")) for source in sources]
        if not modifiers[1].endswith("x2"):
            return parts[0]
        return parts[0].astype(np.uint32) << np.uint32(16) | parts[1]

    def _convert(self, modifiers: tuple[str, ...], source: str) -> np.ndarray:
        to, kind = (m for m in modifiers if m == "bf16" or (m[0] in "usbf" and m[1:].isdigit()))
        if kind == "bf16":
            return (self.value(source, "b16").astype(np.uint32) << np.uint32(16)).view(np.float32)
        if kind == "f16":
            return self.value(source, "b16").view(np.float16).astype(np.float32)
        value = self.value(source, kind)
        if kind == "f32" and "rni" in modifiers:
            return np.rint(value)
        if to == "f32" and kind != "f32":
            return value.astype(np.float32)
        if "f" in (to[0], kind[0]):
            raise DeviceError(f"conversion {modifiers} is not known here")
        return value.astype((SIGNED if kind[0] == "s" else UNSIGNED)[int(to[1:])])


def _compute_integer(i: Instruction, values: list[np.ndarray]) -> np.ndarray:
    a, b, *rest = (*values, values[0])
    if i.opcode == "mul" and "hi" in i.modifiers and a.itemsize == 4:
        wide = np.int64 if a.dtype.kind == "i" else np.uint64
        return (a.astype(wide) * b.astype(wide) >> wide(32)).astype(a.dtype)
    if i.opcode == "bfi":
        return _insert_bits(a, b, *rest[:2])
    if i.opcode in ("mul", "mad") and "lo" not in i.modifiers:
        raise DeviceError(f"not known here: {i.text}")
    if i.opcode in ("div", "rem"):
        b = np.where(b == 0, b.dtype.type(1), b)
        quotient = np.abs(a) // np.abs(b) * (np.sign(a) * np.sign(b))
        return (quotient if i.opcode == "div" else a - quotient * b).astype(a.dtype)
    if i.opcode == "bfe":
        width = a.itemsize * 8
        position, length = b.astype(a.dtype), rest[0].astype(a.dtype)
        left = a.dtype.type(width) - position - length
        return a << left >> (left + position)
    return {
        "add": lambda: a + b,
        "sub": lambda: a - b,
        "mul": lambda: a * b,
        "mad": lambda: a * b + rest[0],
        "neg": lambda: -a,
        "shl": lambda: a << b,
        "shr": lambda: a >> b,
        "min": lambda: np.minimum(a, b),
        "max": lambda: np.maximum(a, b),
    }[i.opcode]()


def _insert_bits(
    source: np.ndarray, target: np.ndarray, position: np.ndarray, length: np.ndarray
) -> np.ndarray:
    """The lowest ``length`` bits of ``source``, at ``position`` in ``target``; 32 bits."""
    wide = [part.astype(np.uint64) for part in (source, target, position, length)]
    ones = (np.uint64(1) << wide[3]) - np.uint64(1) << wide[2]
    return (wide[1] & ~ones | wide[0] << wide[2] & ones).astype(target.dtype)
