"""Matrices that the 32 lanes of a warp hold together.

Registers are uint32 arrays ``[warps, 32]``. Lane l = 4 g + q; where a register holds two numbers of
16 bits, the lower half comes first. Layouts as in the PTX ISA, "Matrix Fragments for mma".
"""

from collections.abc import Sequence

import numpy as np

__all__ = ["FORMATS", "WARP", "multiply_add", "row_words", "select_columns", "transpose"]

WARP = 32
LANE = np.arange(WARP)
G, Q = LANE // 4, LANE % 4


def _bfloat16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


# What a register of a factor holds, as numbers from the lowest bit on.
FORMATS = {
    "bf16": lambda r: [_bfloat16(r & np.uint32(0xFFFF)), _bfloat16(r >> np.uint32(16))],
    "f16": lambda r: [
        (r & np.uint32(0xFFFF)).astype(np.uint16).view(np.float16),
        (r >> np.uint32(16)).astype(np.uint16).view(np.float16),
    ],
    # Of a float32 the tensor core reads 19 bits.
    "tf32": lambda r: [(r & np.uint32(0xFFFFE000)).view(np.float32)],
}


def multiply_add(
    kind: str, a: Sequence[np.ndarray], b: Sequence[np.ndarray], c: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """``a b + c`` of ``mma.m16n8k*.row.col``: products exact, the sum rounded once to float32.

    A tensor core adds in an order of its own and may truncate: its last digit can differ.

    Args:
        kind: Of the factors, a key of ``FORMATS``.
        a: 16 x k, two registers per eight (``tf32``: four) columns.
        b: k x 8, half as many registers.
        c: 16 x 8, four registers of float32.
    """
    per_register = 1 if kind == "tf32" else 2
    columns = 4 * per_register
    warps = len(a[0])
    left = np.zeros((warps, 16, columns * len(a) // 2))
    right = np.zeros((warps, columns * len(b), 8))
    added = np.zeros((warps, 16, 8))
    for n, register in enumerate(a):
        for half, value in enumerate(FORMATS[kind](register)):
            left[:, G + 8 * (n % 2), per_register * Q + half + columns * (n // 2)] = value
    for n, register in enumerate(b):
        for half, value in enumerate(FORMATS[kind](register)):
            right[:, per_register * Q + half + columns * n, G] = value
    for n, register in enumerate(c):
        added[:, G + 8 * (n // 2), 2 * Q + n % 2] = register.view(np.float32)
    total = (left @ right + added).astype(np.float32)
    parts = [total[:, G + 8 * (n // 2), 2 * Q + n % 2] for n in range(4)]
    return [np.ascontiguousarray(part).view(np.uint32) for part in parts]


def transpose(register: np.ndarray) -> np.ndarray:
    """``movmatrix.trans``: 8 x 8 numbers of 16 bits, lane l holding two neighbours of row g."""
    matrix = np.zeros((len(register), 8, 8), np.uint32)
    matrix[:, G, 2 * Q] = register & np.uint32(0xFFFF)
    matrix[:, G, 2 * Q + 1] = register >> np.uint32(16)
    return matrix[:, 2 * Q, G] | matrix[:, 2 * Q + 1, G] << np.uint32(16)


def row_words(addresses: np.ndarray, matrix: int) -> np.ndarray:
    """Where the words of an 8 x 8 matrix lie whose rows begin at ``addresses[:, 8 matrix + row]``:
    the one that each lane holds untransposed."""
    return addresses[:, 8 * matrix + G] + 4 * Q


def select_columns(addresses: np.ndarray, matrix: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same transposed: for both halves of a lane's register the word, and the bits to skip."""
    shift = (16 * (G % 2)).astype(np.uint32)
    rows = [addresses[:, 8 * matrix + 2 * Q + half] for half in range(2)]
    return [(row + 4 * (G // 2), shift) for row in rows]
