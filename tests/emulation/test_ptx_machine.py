"""The emulation on small kernels of its own: what they compute, and every fault that it names."""

import numpy as np
import pytest
import torch
from ptx_machine import Launch
from ptx_memory import DeviceError, Memory
from ptx_program import parse

THREADS = 64


def run(body: str, *tensors: torch.Tensor, blocks: int = 1, shared: int = 0) -> None:
    """``body`` finds its thread in %r1, its byte offset in %rd9, the tensors in %rd1, %rd2, ..."""
    names = range(1, len(tensors) + 1)
    parameters = ",\n".join(f".param .u64 k_param_{n - 1}" for n in names)
    loads = "\n".join(f"ld.param.u64 %rd{n}, [k_param_{n - 1}];" for n in names)
    text = f""".visible .entry k(
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
    Launch(parse(text)["k"], [blocks], THREADS, shared, pointers, memory, 0).run()


def test_floats_are_added() -> None:
    x, y = torch.arange(64.0), torch.zeros(64)
    run(
        """add.s64 %rd3, %rd1, %rd9;
        add.s64 %rd4, %rd2, %rd9;
        ld.global.f32 %f1, [%rd3];
        fma.rn.f32 %f2, %f1, 0f40000000, 0fBF800000;
        st.global.f32 [%rd4], %f2;""",
        *(x, y),
    )
    assert torch.equal(y, 2 * x - 1)


def test_threads_part_and_meet() -> None:
    """A loop of as many rounds as the thread's number; a sum over the warp once all are through."""
    y = torch.zeros(64, dtype=torch.int32)
    run(
        """mov.u32 %r2, 0;
        mov.u32 %r3, %r1;
        $L1:
        setp.eq.s32 %p1, %r3, 0;
        @%p1 bra $L2;
        add.s32 %r2, %r2, 3;
        sub.s32 %r3, %r3, 1;
        bra.uni $L1;
        $L2:
        shfl.sync.bfly.b32 %r4, %r2, 1, 31, -1;
        add.s32 %r5, %r2, %r4;
        add.s64 %rd3, %rd1, %rd9;
        st.global.u32 [%rd3], %r5;""",
        y,
    )
    thread = torch.arange(64)
    assert torch.equal(y.long(), 3 * thread + 3 * (thread ^ 1))


@pytest.mark.parametrize(
    ("instructions", "operands", "expected"),
    [
        ("div.s32 %r2, %r1, 3", (-7,), -2),
        ("rem.s32 %r2, %r1, 3", (-7,), -1),
        ("shr.s32 %r2, %r1, 1", (-7,), -4),
        ("shr.u32 %r2, %r1, 28", (-7,), 15),
        ("bfe.s32 %r2, %r1, 1, 2", (5,), -2),
        ("bfe.u32 %r2, %r1, 1, 2", (5,), 2),
        ("mul.lo.s32 %r2, %r1, %r1", (1 << 20,), 0),
        ("mad.lo.s32 %r2, %r1, %r1, 4", (-3,), 13),
        ("min.s32 %r2, %r1, 0", (-1,), -1),
        ("min.u32 %r2, %r1, 0", (-1,), 0),
        ("mul.wide.s32 %rd2, %r1, 2; cvt.u32.u64 %r2, %rd2", (-3,), -6),
        ("setp.lt.u32 %p1, %r1, 5; selp.b32 %r2, 1, 0, %p1", (-1,), 0),
        ("setp.lt.s32 %p1, %r1, 5; selp.b32 %r2, 1, 0, %p1", (-1,), 1),
        ("mov.b32 {%rs1, %rs2}, %r1; mov.b32 %r2, {%rs2, %rs1}", (0x10002,), 0x20001),
    ],
)
def test_integers(instructions: str, operands: tuple[int], expected: int) -> None:
    y = torch.full((64,), operands[0], dtype=torch.int32)
    body = instructions.replace(";", ";\n")
    run(
        f"""add.s64 %rd3, %rd1, %rd9;
        ld.global.u32 %r1, [%rd3];
        {body};
        st.global.u32 [%rd3], %r2;""",
        y,
    )
    assert y.unique().tolist() == [expected]


def test_narrow_floats_are_widened() -> None:
    x = torch.arange(64.0).sub(30.5).half()
    y = torch.zeros(64)
    run(
        """shr.u64 %rd3, %rd9, 1;
        add.s64 %rd4, %rd1, %rd3;
        ld.global.b16 %rs1, [%rd4];
        cvt.f32.f16 %f1, %rs1;
        add.s64 %rd5, %rd2, %rd9;
        st.global.f32 [%rd5], %f1;""",
        *(x, y),
    )
    assert torch.equal(y, x.float())


STORE_SHARED = """mov.u32 %r2, buffer;
    shl.b32 %r3, %r1, 2;
    add.s32 %r4, %r2, %r3;
    st.shared.u32 [%r4], %r1;"""
LOAD_NEIGHBOUR = """xor.b32 %r5, %r3, 4;
    add.s32 %r6, %r2, %r5;
    ld.shared.u32 %r7, [%r6];
    add.s64 %rd3, %rd1, %rd9;
    st.global.u32 [%rd3], %r7;"""


def test_a_barrier_orders_shared_memory() -> None:
    y = torch.zeros(64, dtype=torch.int32)
    run(f"{STORE_SHARED}\nbar.sync 0;\n{LOAD_NEIGHBOUR}", y, shared=256)
    assert torch.equal(y.long(), torch.arange(64) ^ 1)


@pytest.mark.parametrize(
    ("body", "options", "message"),
    [
        (f"{STORE_SHARED}\n{LOAD_NEIGHBOUR}", {"shared": 256}, "race of block 0 thread"),
        (STORE_SHARED, {"shared": 252}, "out of bounds"),
        ("st.global.u32 [%rd1], %r1;", {}, "one address, two values"),
        ("st.global.u32 [%rd1], 7;", {"blocks": 2}, "race of block 1 thread 0 with block 0"),
        ("add.s64 %rd3, %rd1, %rd9; ld.global.u32 %r2, [%rd3+4];", {}, "outside of every tensor"),
        ("add.s64 %rd3, %rd1, 2; ld.global.u32 %r2, [%rd3];", {}, "misaligned"),
        ("ld.global.v2.u32 {%r2, %r3}, [%rd1+4];", {}, "misaligned"),
        ("add.s32 %r2, %r3, 1;", {}, "%r3 is read before it is written"),
        (
            "setp.lt.u32 %p1, %r1, 8; @%p1 bra $L1; bar.sync 0; bra.uni $L2; $L1: bar.sync 0; $L2:",
            {},
            "different barriers",
        ),
        (
            "setp.lt.u32 %p1, %r1, 8; @%p1 bra $L1; shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1; $L1:",
            {},
            "whole warps",
        ),
    ],
)
def test_faults(body: str, options: dict, message: str) -> None:
    body = body.replace("; ", ";\n").replace(": ", ":\n")
    with pytest.raises(DeviceError, match=message):
        run(body, torch.zeros(64, dtype=torch.int32), **options)


def test_unwritten_shared_memory_is_nan() -> None:
    y = torch.zeros(64)
    run("mov.u32 %r2, buffer;\nld.shared.f32 %f1, [%r2];\nst.global.f32 [%rd1], %f1;", y, shared=4)
    assert np.isnan(y[0].item())
