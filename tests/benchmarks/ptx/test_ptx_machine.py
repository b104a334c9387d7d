"""The emulation on small kernels of its own: what they compute, and every fault that it names."""

import numpy as np
import pytest
import torch
from ptx_kernels import run_body as run

from benchmarks.ptx.machine import Launch
from benchmarks.ptx.memory import DeviceError, Memory
from benchmarks.ptx.program import parse


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
        ("mul.hi.s32 %r2, %r1, %r1", (-(1 << 30),), 1 << 28),
        ("mul.hi.s32 %r2, %r1, 3", (-1,), -1),
        ("mul.hi.u32 %r2, %r1, 3", (-1,), 2),
        ("bfi.b32 %r2, 53, %r1, 4, 3", (0x702F,), 0x705F),
        ("bfi.b32 %r2, %r1, 0, 16, 16", (3,), 3 << 16),
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


def test_floats_are_narrowed_to_the_nearest() -> None:
    """Bfloat16 and float16 as torch rounds them: ties to even, up to infinity, NaN stays NaN."""
    x = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 1 + 3 * 2**-11, 3.4e38, 1e-7, -2.5])
    nan = torch.tensor([0x7FFFFFFF], dtype=torch.int32).view(torch.float32)
    x = torch.cat([x, nan, torch.tensor([-torch.inf]), torch.randn(55)])
    pairs, single = torch.zeros(2, 64, dtype=torch.int32), torch.zeros(2, 64, dtype=torch.int32)
    run(
        """add.s64 %rd4, %rd1, %rd9;
        add.s64 %rd5, %rd2, %rd9;
        add.s64 %rd6, %rd3, %rd9;
        ld.global.f32 %f1, [%rd4];
        neg.f32 %f2, %f1;
        cvt.rn.bf16x2.f32 %r2, %f2, %f1;
        cvt.rn.f16x2.f32 %r3, %f2, %f1;
        st.global.u32 [%rd5], %r2;
        st.global.u32 [%rd5+256], %r3;
        cvt.rn.bf16.f32 %rs1, %f1;
        cvt.rn.f16.f32 %rs2, %f1;
        mov.b32 %r4, {%rs1, %rs1};
        mov.b32 %r5, {%rs2, %rs2};
        st.global.u32 [%rd6], %r4;
        st.global.u32 [%rd6+256], %r5;""",
        *(x, pairs, single),
    )
    for row, dtype in enumerate((torch.bfloat16, torch.float16)):
        expected = torch.stack([x.to(dtype), (-x).to(dtype)], 1)
        assert torch.equal(pairs[row].view(dtype).view(64, 2).nan_to_num(7), expected.nan_to_num(7))
        assert torch.equal(
            single[row].view(dtype).view(64, 2).nan_to_num(7),
            expected[:, :1].expand(64, 2).nan_to_num(7),
        )


@pytest.mark.parametrize(
    ("name", "less", "equal", "more", "nan"),
    [
        *(("lt", 1, 0, 0, 0), ("le", 1, 1, 0, 0), ("gt", 0, 0, 1, 0), ("ge", 0, 1, 1, 0)),
        *(("ltu", 1, 0, 0, 1), ("leu", 1, 1, 0, 1), ("gtu", 0, 0, 1, 1), ("geu", 0, 1, 1, 1)),
        *(("eq", 0, 1, 0, 0), ("equ", 0, 1, 0, 1), ("ne", 1, 0, 1, 0), ("neu", 1, 0, 1, 1)),
    ],
)
def test_floats_are_compared(name: str, less: int, equal: int, more: int, nan: int) -> None:
    """Names that end in u are true of NaN."""
    x, y = torch.full((64,), torch.nan), torch.full((64,), -1, dtype=torch.int32)
    x[:3] = torch.tensor([1.0, 2.0, 3.0])
    run(
        f"""add.s64 %rd3, %rd1, %rd9;
        add.s64 %rd4, %rd2, %rd9;
        ld.global.f32 %f1, [%rd3];
        setp.{name}.f32 %p1, %f1, 0f40000000;
        selp.b32 %r2, 1, 0, %p1;
        st.global.u32 [%rd4], %r2;""",
        *(x, y),
    )
    assert y[:4].tolist() == [less, equal, more, nan]


def test_visits_of_every_instruction_are_counted() -> None:
    """By warps: one of them goes round five times, the other seven; a part of it takes a branch."""
    kernel, visits = run(
        """shr.u32 %r2, %r1, 5;
        shl.b32 %r3, %r2, 1;
        add.s32 %r3, %r3, 5;
        $L1:
        sub.s32 %r3, %r3, 1;
        setp.gt.s32 %p1, %r3, 0;
        @%p1 bra $L1;
        setp.lt.u32 %p2, %r1, 40;
        @%p2 bra $L2;
        mov.u32 %r4, 1;
        $L2:
        mov.u32 %r5, 1;"""
    )
    counts = {i.text: int(n) for i, n in zip(kernel.code, visits, strict=True)}
    assert counts["shl.b32 %r3, %r2, 1"] == 2
    assert counts["sub.s32 %r3, %r3, 1"] == 5 + 7
    assert counts["@%p1 bra $L1"] == 5 + 7
    assert counts["mov.u32 %r4, 1"] == 1
    assert counts["mov.u32 %r5, 1"] == 2
    assert [i.line for i in kernel.code][:3] == [7, 8, 9]  # of the text, from 1 on


def test_parameters_are_structs_too() -> None:
    """Read at an offset, by several numbers, and through a register."""
    text = """.visible .entry k(
    .param .u64 k_param_0,
    .param .align 8 .b8 k_param_1[24]
    )
    {
    ld.param.u64 %rd1, [k_param_0];
    ld.param.v2.u32 {%r1, %r2}, [k_param_1+8];
    mov.b64 %rd2, k_param_1;
    {
    ld.param.u32 %r3, [%rd2+20];
    }
    st.global.u32 [%rd1], %r1;
    st.global.u32 [%rd1+4], %r2;
    st.global.u32 [%rd1+8], %r3;
    ret;
    }"""
    y = torch.zeros(3, dtype=torch.int32)
    memory = Memory()
    memory.add(y)
    parameters = [y.data_ptr().to_bytes(8, "little"), np.arange(6, dtype=np.int32).tobytes()]
    kernel = parse(text)["k"]
    Launch(kernel, [1], 32, 0, parameters, memory, 0).run()
    assert y.tolist() == [2, 3, 5]
    beyond = parse(text.replace("+20", "+24"))["k"]
    with pytest.raises(DeviceError, match="out of bounds"):
        Launch(beyond, [1], 32, 0, parameters, memory, 1).run()


def test_variables_in_shared_memory_lie_apart() -> None:
    """Those of the kernel first, then what the launch gives."""
    text = """.extern .shared .align 16 .b8 given[];
    .visible .entry k(
    .param .u64 k_param_0
    )
    {
    .shared .align 4 .b8 first[20];
    .shared .align 4 .f32 second;
    ld.param.u64 %rd1, [k_param_0];
    mov.u32 %r1, first;
    mov.u32 %r2, second;
    mov.u32 %r3, given;
    sub.s32 %r4, %r2, %r1;
    sub.s32 %r5, %r3, %r1;
    st.shared.u32 [%r3+4], %r4;
    st.global.u32 [%rd1], %r4;
    st.global.u32 [%rd1+4], %r5;
    ret;
    }
    .visible .entry other(
    )
    {
    mov.u32 %r1, second;
    ret;
    }"""
    y = torch.zeros(2, dtype=torch.int32)
    memory = Memory()
    memory.add(y)
    pointer = y.data_ptr().to_bytes(8, "little")
    kernels = parse(text)
    Launch(kernels["k"], [1], 32, 8, [pointer], memory, 0).run()
    assert y.tolist() == [32, 48]
    with pytest.raises(DeviceError, match="out of bounds"):
        Launch(kernels["k"], [1], 32, 4, [pointer], memory, 1).run()
    with pytest.raises(DeviceError, match="second is not declared"):
        Launch(kernels["other"], [1], 32, 0, [], memory, 2).run()


def test_assembly_in_braces_is_several_instructions() -> None:
    """As written into a source file, with a predicate of its own."""
    y = torch.zeros(64, 2, dtype=torch.int32)
    kernel, _ = run(
        """shl.b64 %rd3, %rd9, 1;
        add.s64 %rd4, %rd1, %rd3;
        sub.s32 %r2, %r1, 60;
        {.reg .pred p; setp.ge.s32 p,%r2,0; @p st.global.v2.u32 [%rd4],{%r1,%r2};}
        {.reg .pred p; setp.ge.s32 p,%r2,2; @!p st.global.u32 [%rd4],7;}""",
        y,
    )
    assert (y[:60] == torch.tensor([7, 0])).all()
    assert y[60:].tolist() == [[7, 0], [7, 1], [62, 2], [63, 3]]
    assert [i.line - kernel.code[-5].line for i in kernel.code[-5:]] == [0, 0, 1, 1, 2]


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
        ("mov.u32 %r2, elsewhere;", {}, "elsewhere is not declared"),
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
        ("st.shared.v2.u32 [buffer+4], {%r1, %r1};", {"shared": 16}, "misaligned"),
        (
            # A number of 32 bits covers both of 16 bits that another thread reads a part of.
            "mov.u32 %r2, buffer; shl.b32 %r3, %r1, 2; add.s32 %r4, %r2, %r3; "
            "st.shared.u32 [%r4], %r1; xor.b32 %r5, %r4, 4; ld.shared.u16 %rs1, [%r5+2];",
            {"shared": 256},
            "race of block 0 thread",
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
