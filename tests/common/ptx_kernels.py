"""Kernels of a few lines for the tests of the emulation."""

import numpy as np
import torch

from benchmarks.ptx.machine import Launch
from benchmarks.ptx.memory import Memory
from benchmarks.ptx.program import Kernel, parse

__all__ = ["THREADS", "run_body"]

THREADS = 64


def run_body(
    body: str, *tensors: torch.Tensor, blocks: int = 1, shared: int = 0
) -> tuple[Kernel, np.ndarray]:
    """Run ``body``; it finds its thread in %r1, four times that in %rd9, the tensors in %rd1, ...

    Returns:
        The kernel, and how many warps came by each of its instructions.
    """
    names = range(1, len(tensors) + 1)
    parameters = ",\n".join(f".param .u64 k_param_{n - 1}" for n in names)
    loads = "\n".join(f"ld.param.u64 %rd{n}, [k_param_{n - 1}];" for n in names)
    text = f""".extern .shared .align 16 .b8 buffer[];
.visible .entry k(
{parameters}
)
{{
{loads}
mov.u32 %r1, %tid.x;
mul.wide.u32 %rd9, %r1, 4;
{body}
ret;
}}"""
    memory = Memory()
    for tensor in tensors:
        memory.add(tensor)
    pointers = [tensor.data_ptr().to_bytes(8, "little") for tensor in tensors]
    kernel = parse(text)["k"]
    visits = np.zeros(len(kernel.code), np.int64)
    launch = Launch(kernel, [blocks], THREADS, shared, pointers, memory, 0, visits=visits)
    launch.run()
    return kernel, visits
