"""Compile the Triton kernels for a GPU that need not be there, and report what they take of it.

The launch code of the ops runs as it stands, on small tensors in host memory; in place of every
launch its kernel is compiled for the target. What comes out are the variants that a program would
compile there: no list of them has to be kept.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch

from mmquad.ops.directional_scan.layout import Order
from mmquad.ops.directional_scan.triton_scan import triton_backward, triton_forward
from mmquad.ops.selective_scan.triton_launch import chunk_length
from mmquad.ops.selective_scan.triton_scan import (
    selective_scan_backward_triton,
    selective_scan_triton,
)

__all__ = [
    "Variant",
    "compile_directional_scan",
    "compile_selective_scan",
    "compiling_for",
    "handing_over",
]


class Variant(NamedTuple):
    """One compiled kernel.

    ``registers`` are those of a thread; ``spilled`` counts bytes of its stack on NVIDIA and
    registers on AMD; ``shared`` bytes belong to a program.
    """

    kernel: str
    constants: str
    registers: int
    spilled: int
    shared: int

    def __str__(self) -> str:
        return (
            f"{self.kernel:20} {self.registers:4} registers {self.spilled:4} spilled "
            f"{self.shared:6} bytes shared  {self.constants}"
        )


class _AbsentDriver:
    """As much of a Triton driver as compiling asks for."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def get_current_target(self) -> Any:
        return self._target

    def get_current_device(self) -> str:
        return str(self._target)  # compiled kernels are cached by device

    def get_current_stream(self, device: str) -> int:
        return 0


@contextmanager
def handing_over(target: str, use: Callable[..., None]) -> Iterator[None]:
    """Instead of launching kernels, compile them and hand them over, inside a ``with`` block.

    Args:
        target: ``sm_80`` and the like, or ``gfx942`` and the like.
        use: Called with the compiled kernel, the function that it was compiled from, and the
            arguments by name.

    Raises:
        ValueError: Kernels are interpreted in this process, or the target is of neither kind.
    """
    from triton.backends.compiler import GPUTarget
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    from mmquad.ops.selective_scan import triton_forward

    if not isinstance(triton_forward.outputs, JITFunction):
        raise ValueError("kernels are interpreted in this process: unset TRITON_INTERPRET")
    if target.startswith("sm_"):
        place = GPUTarget("cuda", int(target.removeprefix("sm_")), 32)
    elif target.startswith("gfx"):
        place = GPUTarget("hip", target, 64 if target.startswith("gfx9") else 32)
    else:
        raise ValueError(f"target must be sm_<number> or gfx<name>, got {target!r}")
    run = JITFunction.run

    def compile_only(self: Any, **options: Any) -> None:
        use(run(self, **{**options, "warmup": True}), self, options)

    with (
        mock.patch.object(driver, "_active", _AbsentDriver(place)),
        mock.patch.object(JITFunction, "run", compile_only),
    ):
        yield


@contextmanager
def compiling_for(target: str) -> Iterator[dict[str, Variant]]:
    """Compile instead of launching, inside a ``with`` block.

    Args:
        target: As for :func:`handing_over`.

    Yields:
        The variants compiled so far, by hash.

    Raises:
        ValueError: As :func:`handing_over`.
    """
    variants: dict[str, Variant] = {}

    def note(kernel: Any, function: Any, options: dict[str, Any]) -> None:
        if kernel.hash not in variants:
            constants = [p.name for p in function.params if p.is_constexpr]
            text = " ".join(f"{name}={options[name]}" for name in constants)
            variants[kernel.hash] = Variant(kernel.metadata.name, text, *_resources(kernel))

    with handing_over(target, note):
        yield variants


def _resources(kernel: Any) -> tuple[int, int, int]:
    if "amdgcn" in kernel.asm:
        text = kernel.asm["amdgcn"]
        registers, spilled = (
            int(re.findall(rf"\.{name}:\s*(\d+)", text)[-1])
            for name in ("vgpr_count", "vgpr_spill_count")
        )
        return registers, spilled, kernel.metadata.shared
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        binary = os.path.join(folder, "kernel.cubin")
        Path(binary).write_bytes(kernel.asm["cubin"])
        text = subprocess.run(
            [str(tool), "-res-usage", binary], capture_output=True, text=True, check=True
        ).stdout
    found = [re.search(rf"{name}:(\d+)", text) for name in ("REG", "STACK")]
    registers, spilled = (int(match.group(1)) for match in found if match is not None)
    return registers, spilled, kernel.metadata.shared


def compile_directional_scan(
    dtype: torch.dtype = torch.bfloat16,
    *,
    batch: int = 2,
    length: int = 300,
    channels: int = 96,
    directions: int = 2,
    states: int = 1,
    ranks: int = 6,
    windows: bool = False,
    backward: bool = True,
) -> None:
    """What the fused op launches for such sizes; call inside :func:`compiling_for`."""
    x = torch.zeros(batch, length, channels, dtype=dtype)
    z = torch.zeros(batch, length, directions * (ranks + 2 * states))
    parameters = (
        torch.zeros(directions, channels, ranks),
        torch.zeros(directions, channels),
        torch.zeros(directions, channels, states),
        torch.zeros(directions, channels),
    )
    sets = 2 if windows else 1
    order = torch.arange(length, dtype=torch.int32).expand(sets, directions, length)
    window = torch.zeros(length, dtype=torch.int32) if windows else None
    weight = torch.zeros(batch, 4) if windows else None
    tables = Order(order, order, window, weight)
    chunks = -(-length // chunk_length(length))
    entries = torch.zeros(batch, directions, chunks, states, channels)
    inputs = (x, z, *parameters, tables, True, entries)
    y = triton_forward(*inputs)
    if backward:
        triton_backward(torch.zeros_like(y), *inputs)


def compile_selective_scan(
    *,
    batch: int = 2,
    length: int = 300,
    channels: int = 96,
    groups: int = 2,
    states: int = 1,
    softplus: bool = True,
    backward: bool = True,
) -> None:
    """What the general op launches for such sizes; call inside :func:`compiling_for`."""
    u = torch.zeros(batch, channels, length)
    A, B = torch.zeros(channels, states), torch.zeros(batch, groups, states, length)
    inputs = (u, u, A, B, B, None, None, softplus)
    y, last = selective_scan_triton(*inputs)
    if backward:
        selective_scan_backward_triton(torch.zeros_like(y), torch.zeros_like(last), *inputs)
