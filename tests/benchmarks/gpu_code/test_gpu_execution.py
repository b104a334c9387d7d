"""Machine code and the visits of its PTX, put together: by hand, and compiled by nvcc."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gpu_code.compilation import CompiledKernel, compile_kernels, find_nvcc
from benchmarks.gpu_code.disassembly import MachineInstruction, find_disassembler
from benchmarks.gpu_code.execution import executed
from benchmarks.ptx.machine import Launch
from benchmarks.ptx.memory import Memory
from benchmarks.ptx.program import parse

PTX = """.visible .entry k()
{
mul.f32 %f1, %f2, %f3;
fma.rn.f32 %f1, %f2, %f3, %f4;
ex2.approx.f32 %f5, %f6;
ld.shared.v4.f32 {%f7, %f8, %f9, %f10}, [%r1];
ld.shared.f32 %f7, [%r1];
add.s32 %r1, %r2, %r3;
ret;
}"""
MUL, FMA, EX2, VECTOR, LOAD, ADD = range(3, 9)


def count(visits: dict[int, int], *blocks: list[tuple[str, int]]) -> tuple[dict, float]:
    """Executed by class, and the agreement; ``visits`` by line, 0 otherwise."""
    kernel = parse(PTX)["k"]
    code = [[MachineInstruction(*each) for each in block] for block in blocks]
    numbers = np.array([visits.get(i.line, 0) for i in kernel.code])
    total, agreement = executed(CompiledKernel(kernel, code, 32, 0), numbers)
    return {kind: number for kind, number in total.items() if number}, agreement


def test_a_block_is_executed_as_often_as_its_markers() -> None:
    """Also what was moved into it from elsewhere, and what has no PTX of its own."""
    block = [("FFMA", FMA), ("MUFU.EX2", EX2), ("FMUL", MUL), ("MOV", 99), ("IADD3", ADD)]
    counts, agreement = count({FMA: 6, EX2: 6, MUL: 1, ADD: 2}, block)
    assert counts == {"float": 12, "special function": 6, "move": 6, "integer": 6}
    assert agreement == pytest.approx(2 / 3)


def test_the_higher_of_two_counts_is_taken_where_neither_has_more_markers() -> None:
    """Code is moved out of loops, hardly into them."""
    for block in ([("FFMA", FMA), ("FMUL", MUL)], [("FMUL", MUL), ("FFMA", FMA)]):
        assert count({FMA: 2, MUL: 6}, block)[0] == {"float": 12}
    assert count({FMA: 2, EX2: 2, MUL: 6}, [*block, ("MUFU.EX2", EX2)])[0]["float"] == 4


def test_copies_of_an_unrolled_loop_share_its_visits() -> None:
    """Four to a round, then one by one: 4 x 2 + 1 is counted as 4 x 1.8 + 1.8, the same sum."""
    counts, agreement = count({FMA: 9, EX2: 9}, 4 * [("FFMA", FMA)], [("FFMA", FMA)])
    assert counts == {"float": pytest.approx(9)}
    assert agreement == 1


def test_parts_of_a_vector_are_no_copies() -> None:
    counts, _ = count({VECTOR: 8, LOAD: 8}, 2 * [("LDS.64", VECTOR)] + [("LDS", LOAD)])
    assert counts == {"shared memory": 24}


def test_without_markers_the_lines_decide() -> None:
    counts, _ = count({ADD: 5, VECTOR: 5}, [("IADD3", ADD), ("LDS.128", VECTOR), ("NOP", 99)])
    assert counts == {"integer": 5, "shared memory": 5, "control": 5}
    assert count({FMA: 5}, [("NOP", 99)]) == ({}, 0)


SOURCE = """
// The inner loops go round as often as the data says.
extern "C" __global__ void rounds(const float* x, const int* trips, float* y) {
  float sum = x[threadIdx.x];
  for (int outer = 0; outer < 3; ++outer) {
    const int n = trips[threadIdx.x / 32];
#pragma unroll UNROLL
    for (int i = 0; i < n; ++i) {
      asm volatile("fma.rn.f32 %0, %0, %0, %0;" : "+f"(sum));
      asm volatile("fma.rn.f32 %0, %0, %0, %0;" : "+f"(sum));
    }
#pragma unroll 1
    for (int i = 6; i < n; ++i) asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(sum));
  }
  y[threadIdx.x] = sum;
}
"""


@pytest.mark.parametrize("unroll", [1, 4])
def test_loops_of_compiled_code_are_counted(unroll: int, tmp_path: Path) -> None:
    """Two warps, 5 and 11 rounds, three times; the second loop 0 and 5."""
    nvcc, disassembler = find_nvcc(), find_disassembler()
    if nvcc is None or disassembler is None:
        pytest.skip("no nvcc or no nvdisasm")
    source = tmp_path / "rounds.cu"
    source.write_text(SOURCE.replace("UNROLL", str(unroll)))
    kernel = compile_kernels(nvcc, disassembler, source, tmp_path)["rounds"]
    assert kernel.registers > 0
    assert kernel.spilled == 0
    x, y = torch.zeros(64), torch.zeros(64)
    trips = torch.tensor([5, 11], dtype=torch.int32)
    memory = Memory()
    for tensor in (x, trips, y):
        memory.add(tensor)
    pointers = [struct.pack("Q", tensor.data_ptr()) for tensor in (x, trips, y)]
    visits = np.zeros(len(kernel.ptx.code), np.int64)
    Launch(kernel.ptx, [1], 64, 0, pointers, memory, 0, visits=visits).run()
    counts, agreement = executed(kernel, visits)
    assert counts["float"] == pytest.approx(3 * 2 * (5 + 11))
    assert counts["special function"] == 3 * (11 - 6)
    assert agreement > 0.95
