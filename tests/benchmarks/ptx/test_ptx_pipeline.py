"""A kernel with all that a tensor core's kernels are made of, as nvcc compiles it.

Tiles of two matrices are copied asynchronously, one ahead, read by ldmatrix, multiplied by mma. It
computes the product; and without any one barrier or wait, the emulation finds the fault.
"""

import struct
import subprocess

import pytest
import torch

from benchmarks.gpu_code.compilation import find_nvcc
from benchmarks.ptx.machine import Launch
from benchmarks.ptx.memory import DeviceError, Memory
from benchmarks.ptx.program import Kernel, parse

SOURCE = """
typedef unsigned u32;
__device__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
__device__ void copy(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from));
}
struct Problem { const uint4* a; const uint4* b; float2* c; int tiles; int rows; };

// c [32, 8] = a [32, 16 tiles] b [16 tiles, 8]; two warps of 16 rows. Rows of a are two times 16
// bytes for a tile, those of b one; a warp copies the rows that the other one multiplies.
extern "C" __global__ void product(const __grid_constant__ Problem p) {
  __shared__ __align__(16) uint4 a[2][32][3], b[2][16];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  auto stage = [&](int tile, int buffer) {
    const int row = 16 * (1 - warp) + lane / 2;
    copy(&a[buffer][row][lane % 2], p.a + (row * p.tiles + tile) * 2 + lane % 2);
    if (threadIdx.x < 16) copy(&b[buffer][threadIdx.x], p.b + tile * 16 + threadIdx.x);
    asm volatile("cp.async.commit_group;");
  };
  float c[4] = {0, 0, 0, 0};
  stage(0, 0);
#pragma unroll 1
  for (int tile = 0; tile < p.tiles; ++tile) {
    const int buffer = tile % 2;
    if (tile + 1 < p.tiles) {
      stage(tile + 1, 1 - buffer);
      asm volatile("cp.async.wait_group 1;" ::: "memory");
    } else {
      asm volatile("cp.async.wait_group 0;" ::: "memory");
    }
    __syncthreads();
    u32 x[4], y[2];
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(shared_address(&a[buffer][16 * warp + lane % 16][lane / 16])));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(y[0]), "=r"(y[1]) : "r"(shared_address(&b[buffer][lane % 16])));
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};" : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
    __syncthreads();
  }
  for (int half = 0; half < 2; ++half) {
    const int row = 16 * warp + 8 * half + lane / 4;
    float2* to = p.c + row * 4 + lane % 4;
    asm volatile("{.reg .pred p; setp.lt.s32 p,%3,%4; @p st.global.v2.f32 [%0],{%1,%2};}"
                 ::"l"(to), "f"(c[2 * half]), "f"(c[2 * half + 1]), "r"(row), "r"(p.rows)
                 : "memory");
  }
}
"""
TILES = 4


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    nvcc = find_nvcc()
    if nvcc is None:
        pytest.skip("no nvcc")
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "product.cu").write_text(SOURCE)
    command = [nvcc, "-std=c++17", "-O3", "-arch=compute_90", "-ptx"]
    subprocess.run(
        [*command, folder / "product.cu", "-o", folder / "product.ptx"],
        check=True,
    )
    return parse((folder / "product.ptx").read_text())["product"]


def run(kernel: Kernel) -> tuple[torch.Tensor, torch.Tensor]:
    """The product of the first 30 rows, and what it should be."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(32, 16 * TILES, generator=generator).bfloat16()
    b = torch.randn(16 * TILES, 8, generator=generator).bfloat16()
    c = torch.zeros(32, 8)
    memory = Memory()
    for tensor in (a, b, c):
        memory.add(tensor)
    problem = struct.pack("3Q2i", a.data_ptr(), b.data_ptr(), c.data_ptr(), TILES, 30)
    Launch(kernel, [1], 64, 0, [problem], memory, 0).run()
    expected = a.double() @ b.double()
    expected[30:] = 0
    return c, expected.float()


def test_it_multiplies(kernel: Kernel) -> None:
    c, expected = run(kernel)
    torch.testing.assert_close(c, expected, rtol=1e-6, atol=1e-6)


def without(kernel: Kernel, place: int) -> Kernel:
    code = list(kernel.code)
    code[place] = code[place]._replace(opcode="mov", modifiers=("pred",), operands=("%none", "1"))
    return kernel._replace(code=code)


def test_every_barrier_and_wait_is_needed(kernel: Kernel) -> None:
    barriers = [n for n, each in enumerate(kernel.code) if each.opcode == "bar"]
    waits = [n for n, each in enumerate(kernel.code) if "wait_group" in each.modifiers]
    assert len(barriers) == len(waits) == 2
    for place in barriers:
        with pytest.raises(DeviceError, match=r"race|not waited for"):
            run(without(kernel, place))
    for place in waits:
        with pytest.raises(DeviceError, match="not waited for"):
            run(without(kernel, place))


def test_waiting_for_one_group_too_few_is_found(kernel: Kernel) -> None:
    code = [
        each._replace(operands=("1",)) if each.operands == ("0",) and each.opcode == "cp" else each
        for each in kernel.code
    ]
    with pytest.raises(DeviceError, match="not waited for"):
        run(kernel._replace(code=code))
