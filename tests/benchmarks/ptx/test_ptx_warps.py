"""Instructions of whole warps; who holds which number of a matrix is pinned by hand.

The tables are read off the figures of the PTX ISA ("Matrix Fragments for mma.m16n8k16" and its
neighbours): lane, register and half, and the row and column that they hold.
"""

import pytest
import torch
from ptx_kernels import run_body

from benchmarks.ptx.memory import DeviceError

MMA = """mul.wide.u32 %rd5, %r1, 16;
mul.wide.u32 %rd6, %r1, 8;
add.s64 %rd1, %rd1, %rd5;
add.s64 %rd2, %rd2, %rd6;
add.s64 %rd3, %rd3, %rd5;
add.s64 %rd4, %rd4, %rd5;
ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%rd1];
ld.global.v2.u32 {%r6, %r7}, [%rd2];
ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd3];
mma.sync.aligned.KIND {%f5, %f6, %f7, %f8}, {%r2, %r3, %r4, %r5}, {%r6, %r7}, {%f1, %f2, %f3, %f4};
st.global.v4.f32 [%rd4], {%f5, %f6, %f7, %f8};"""
KINDS = {
    torch.bfloat16: "m16n8k16.row.col.f32.bf16.bf16.f32",
    torch.float16: "m16n8k16.row.col.f32.f16.f16.f32",
    torch.float32: "m16n8k8.row.col.f32.tf32.tf32.f32",
}


def multiply(
    a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, kind: str | None = None
) -> torch.Tensor:
    """Of registers [64 lanes, registers, numbers in each]; two warps."""
    d = torch.zeros(64, 4)
    run_body(MMA.replace("KIND", kind or KINDS[a.dtype]), a, b, c, d)
    return d


@pytest.mark.parametrize(
    ("dtype", "a", "b", "d"),
    [
        # A (1, 11), B (11, 6)
        (torch.bfloat16, (5, 2, 1), (25, 1, 1), (7, 0)),
        # A (15, 14), B (14, 0)
        (torch.bfloat16, (31, 3, 0), (3, 1, 0), (28, 2)),
        # A (8, 1), B (1, 7)
        (torch.float16, (0, 1, 1), (28, 0, 1), (3, 3)),
        # A (3, 4), B (4, 2)
        (torch.float16, (14, 0, 0), (10, 0, 0), (13, 0)),
        # A (9, 5), B (5, 3)
        (torch.float32, (5, 3, 0), (13, 1, 0), (5, 3)),
        # A (7, 2), B (2, 4)
        (torch.float32, (30, 0, 0), (18, 0, 0), (30, 0)),
        # A (2, 4), B (4, 1)
        (torch.float32, (8, 2, 0), (4, 1, 0), (8, 1)),
    ],
)
def test_one_number_of_a_meets_one_of_b(
    dtype: torch.dtype, a: tuple[int, ...], b: tuple[int, ...], d: tuple[int, int]
) -> None:
    numbers = 1 if dtype == torch.float32 else 2
    left, right = torch.zeros(64, 4, numbers).to(dtype), torch.zeros(64, 2, numbers).to(dtype)
    left[a], right[b] = 3, 5
    right[32 + b[0], b[1], b[2]] = 7  # the second warp has no partner for it
    expected = torch.zeros(64, 4)
    expected[d] = 15
    assert torch.equal(multiply(left, right, torch.zeros(64, 4)), expected)


@pytest.mark.parametrize("dtype", KINDS)
def test_matrices_are_multiplied(dtype: torch.dtype) -> None:
    """Dealt to the lanes by the formulas of the PTX ISA; rounded once, at the end."""
    generator = torch.Generator().manual_seed(0)
    numbers = 1 if dtype == torch.float32 else 2
    k = 8 * numbers
    a = torch.randn(2, 16, k, generator=generator).to(dtype)
    b = torch.randn(2, k, 8, generator=generator).to(dtype)
    c = torch.randn(2, 16, 8, generator=generator)
    left, right = torch.zeros(64, 4, numbers).to(dtype), torch.zeros(64, 2, numbers).to(dtype)
    added, expected = torch.zeros(64, 4), torch.zeros(64, 4)
    if dtype == torch.float32:  # what the tensor core reads of it
        a, b = ((m.view(torch.int32) & ~0x1FFF).view(torch.float32) for m in (a, b))
    product = (a.double() @ b.double() + c).float()
    for thread in range(64):
        warp, group, in_group = thread // 32, thread % 32 // 4, thread % 4
        for register in range(4):
            row = group + 8 * (register in (1, 3))
            for half in range(numbers):
                column = numbers * in_group + half + k // 2 * (register >= 2)
                left[thread, register, half] = a[warp, row, column]
            place = (warp, group + 8 * (register >= 2), 2 * in_group + register % 2)
            added[thread, register], expected[thread, register] = c[place], product[place]
        for register in range(2):
            for half in range(numbers):
                row = numbers * in_group + half + k // 2 * register
                right[thread, register, half] = b[warp, row, group]
    if dtype == torch.float32:  # lower digits do not count
        left = (left.view(torch.int32) | 0x1FFF).view(torch.float32)
    assert torch.equal(multiply(left, right, added), expected)


@pytest.mark.parametrize(
    "kind",
    [
        "m16n8k8.row.col.f32.bf16.bf16.f32",  # for two registers of A
        "m16n8k16.row.col.f16.f16.f16.f16",
        "m16n8k16.row.col.s32.s8.s8.s32",
        "m16n8k16.row.col.f32.bf16.f16.f32",
    ],
)
def test_other_products_are_refused(kind: str) -> None:
    with pytest.raises(DeviceError, match="not known here"):
        multiply(torch.zeros(64, 4), torch.zeros(64, 2), torch.zeros(64, 4), kind)


def halves(registers: torch.Tensor) -> list:
    return registers.view(torch.int16).view(*registers.shape, 2).tolist()


def matrix_numbers(matrix: int, *places: tuple[int, int]) -> list[int]:
    """The test fills row r of matrix m with 100 m + 10 r + column."""
    return [100 * matrix + 10 * row + column for row, column in places]


LOAD_MATRICES = """mov.u32 %r2, buffer;
mad.lo.s32 %r3, %r1, 16, %r2;
and.b32 %r12, %r1, 31;
shl.b32 %r4, %r12, 5;
add.s32 %r4, %r4, %r2;
mul.wide.u32 %rd5, %r12, 16;
add.s64 %rd6, %rd1, %rd5;
ld.global.v4.u32 {%r5, %r6, %r7, %r8}, [%rd6];
setp.ge.u32 %p1, %r1, 32;
@%p1 bra $L1;
st.shared.v4.u32 [%r4], {%r5, %r6, %r7, %r8};
$L1:
bar.sync 0;
ldmatrix.sync.aligned.m8n8.KIND.shared.b16 REGISTERS, [%r4];
add.s64 %rd7, %rd2, %rd9;
"""


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_matrices_are_loaded_by_rows_from_anywhere(count: int, transposed: bool) -> None:
    """Rows of 16 bytes lie 32 bytes apart; lane 8 m + r knows row r of matrix m."""
    m, row, column = torch.meshgrid(
        torch.arange(4), torch.arange(8), torch.arange(8), indexing="ij"
    )
    rows = (100 * m + 10 * row + column).short().reshape(32, 8)
    registers = ["%r20", "%r21", "%r22", "%r23"][:count]
    body = LOAD_MATRICES.replace("KIND", f"x{count}" + ".trans" * transposed)
    body = body.replace("REGISTERS", "{" + ", ".join(registers) + "}")
    stores = [f"st.global.u32 [%rd7+{256 * n}], {r};" for n, r in enumerate(registers)]
    y = torch.zeros(count, 64, dtype=torch.int32)
    run_body(body + "\n".join(stores), rows, y, shared=1024)
    for matrix, lanes in enumerate(halves(y)):
        # Lane 6 has the third pair of the second row; lane 38, of the other warp, the same.
        places = [[(0, 0), (0, 1)], [(1, 4), (1, 5)], [(7, 6), (7, 7)], [(1, 4), (1, 5)]]
        for lane, place in zip((0, 6, 31, 38), places, strict=True):
            place = [(c, r) for r, c in place] if transposed else place
            assert lanes[lane] == matrix_numbers(matrix, *place), (matrix, lane)


def test_rows_of_matrices_are_aligned() -> None:
    body = LOAD_MATRICES.replace("KIND", "x1").replace("REGISTERS, [%r4]", "{%r20}, [%r4+8]")
    with pytest.raises(DeviceError, match="misaligned: ldmatrix"):
        run_body(body, torch.zeros(32, 8, dtype=torch.int16), torch.zeros(64), shared=1040)


def test_a_matrix_is_transposed_between_lanes() -> None:
    row, column = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    x = (10 * row + column).short().reshape(32, 2).repeat(2, 1)
    y = torch.zeros(64, dtype=torch.int32)
    run_body(
        """add.s64 %rd3, %rd1, %rd9;
        add.s64 %rd4, %rd2, %rd9;
        ld.global.u32 %r2, [%rd3];
        movmatrix.sync.aligned.m8n8.trans.b16 %r3, %r2;
        st.global.u32 [%rd4], %r3;""",
        *(x, y),
    )
    lanes = halves(y)
    assert lanes[0] == [0, 10]
    assert lanes[5] == [21, 31]
    assert lanes[31] == lanes[63] == [67, 77]


@pytest.mark.parametrize(
    ("operands", "lanes", "valid"),
    [
        # Lanes 0, 1, 5, 30, 31 get the numbers of these; out of the warp they keep their own.
        ("up.b32 %r2|%p1, %r1, 1, 0", (0, 0, 4, 29, 30), (0, 1, 1, 1, 1)),
        ("down.b32 %r2|%p1, %r1, 2, 31", (2, 3, 7, 30, 31), (1, 1, 1, 0, 0)),
        ("bfly.b32 %r2|%p1, %r1, 3, 31", (3, 2, 6, 29, 28), (1, 1, 1, 1, 1)),
        ("idx.b32 %r2|%p1, %r1, 7, 31", (7, 7, 7, 7, 7), (1, 1, 1, 1, 1)),
        # In segments of four lanes: the mask 28 << 8 keeps a lane's upper bits.
        ("up.b32 %r2|%p1, %r1, 1, 7168", (0, 0, 4, 29, 30), (0, 1, 1, 1, 1)),
        ("up.b32 %r2|%p1, %r1, 2, 7168", (0, 1, 5, 28, 29), (0, 0, 0, 1, 1)),
        ("down.b32 %r2|%p1, %r1, 2, 7199", (2, 3, 7, 30, 31), (1, 1, 1, 0, 0)),
        ("idx.b32 %r2|%p1, %r1, 2, 7199", (2, 2, 6, 30, 30), (1, 1, 1, 1, 1)),
        ("idx.b32 %r2|%p1, %r1, 6, 7199", (2, 2, 6, 30, 30), (1, 1, 1, 1, 1)),
    ],
)
def test_lanes_read_each_other(
    operands: str, lanes: tuple[int, ...], valid: tuple[int, ...]
) -> None:
    y, z = torch.zeros(64, dtype=torch.int32), torch.zeros(64, dtype=torch.int32)
    run_body(
        f"""shfl.sync.{operands}, -1;
        selp.b32 %r3, 1, 0, %p1;
        add.s64 %rd3, %rd1, %rd9;
        add.s64 %rd4, %rd2, %rd9;
        st.global.u32 [%rd3], %r2;
        st.global.u32 [%rd4], %r3;""",
        *(y, z),
    )
    places = torch.tensor([0, 1, 5, 30, 31])
    assert y[places].tolist() == list(lanes)
    assert y[32 + places].tolist() == [32 + lane for lane in lanes]
    assert z[places].tolist() == list(valid)


@pytest.mark.parametrize(
    "instruction",
    [
        "movmatrix.sync.aligned.m8n8.trans.b16 %r3, %r2",
        "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r3}, [%r2]",
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r3, %r4, %r5, %r6}, "
        "{%r1, %r1, %r1, %r1}, {%r1, %r1}, {%r1, %r1, %r1, %r1}",
    ],
)
def test_whole_warps_only(instruction: str) -> None:
    body = f"""mov.u32 %r2, buffer;
    setp.lt.u32 %p1, %r1, 8;
    @%p1 bra $L1;
    {instruction};
    $L1:"""
    with pytest.raises(DeviceError, match="whole warps"):
        run_body(body, shared=16)
