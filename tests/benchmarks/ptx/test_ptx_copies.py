"""Asynchronous copies arrive at the wait, and nobody may touch their place before."""

import pytest
import torch
from ptx_kernels import run_body

from benchmarks.ptx.memory import DeviceError

# Thread t copies 16 bytes, four numbers, from x to its place in shared memory, twice.
COPY = """mov.u32 %r2, buffer;
mad.lo.s32 %r3, %r1, 16, %r2;
mul.wide.u32 %rd5, %r1, 16;
add.s64 %rd6, %rd1, %rd5;
add.s64 %rd7, %rd2, %rd5;
cp.async.cg.shared.global [%r3], [%rd6], 16;
cp.async.commit_group;
cp.async.cg.shared.global [%r3+1024], [%rd6+1024], 16, BYTES;
cp.async.commit_group;
"""
STORE = "st.global.v4.u32 [%rd7], {%r4, %r5, %r6, %r7};"
READ_FIRST = "ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r3];\n" + STORE
READ_SECOND = "ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r3+1024];\n" + STORE
READ_NEIGHBOUR = "xor.b32 %r8, %r3, 16;\nld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r8];\n" + STORE


def copy(*steps: str, given: str = "16") -> tuple[torch.Tensor, torch.Tensor]:
    x, y = torch.arange(512, dtype=torch.int32), torch.zeros(64, 4, dtype=torch.int32)
    run_body(COPY.replace("BYTES", given) + "\n".join(steps), x, y, shared=2048)
    return x.view(2, 64, 4), y


def test_a_thread_reads_what_it_waited_for() -> None:
    x, y = copy("cp.async.wait_group 1;", READ_FIRST)
    assert torch.equal(y, x[0])
    x, y = copy("cp.async.wait_group 0;", READ_SECOND)
    assert torch.equal(y, x[1])
    x, y = copy("cp.async.wait_all;", READ_SECOND)
    assert torch.equal(y, x[1])


def test_other_threads_need_a_barrier_too() -> None:
    x, y = copy("cp.async.wait_group 0;", "bar.sync 0;", READ_NEIGHBOUR)
    assert torch.equal(y, x[0][torch.arange(64) ^ 1])


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((READ_FIRST,), "not waited for: ld.shared"),
        (("cp.async.wait_group 2;", READ_FIRST), "not waited for: ld.shared"),
        (("cp.async.wait_group 1;", READ_SECOND), "not waited for: ld.shared"),
        # Waited for only after the barrier: it may arrive after other threads have read.
        (("bar.sync 0;", READ_NEIGHBOUR), "not waited for: ld.shared"),
        (("cp.async.wait_group 0;", READ_NEIGHBOUR), "race"),
        (("bar.sync 0;", "cp.async.wait_group 0;", READ_NEIGHBOUR), "race"),
        (("st.shared.u32 [%r3+4], %r1;",), "not waited for: st.shared"),
        (("cp.async.cg.shared.global [%r3], [%rd6], 16;",), "not waited for: cp.async"),
        # Somebody has just read what the next copy may already overwrite.
        (
            (
                "cp.async.wait_group 0;",
                "bar.sync 0;",
                READ_NEIGHBOUR,
                "cp.async.cg.shared.global [%r3], [%rd6], 16;",
            ),
            "race .* cp.async",
        ),
        (("cp.async.cg.shared.global [%r3+2040], [%rd6], 16;",), "misaligned"),
        (("cp.async.cg.shared.global [%r3+1040], [%rd6], 16;",), "not waited for|out of bounds"),
        (("cp.async.ca.shared.global [%r3], [%rd6+2], 4;",), "misaligned"),
        (("cp.async.ca.shared.global [%r3], [%rd6], 4, 2;",), "not a number of words"),
    ],
)
def test_faults(steps: tuple[str, ...], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        copy(*steps)


@pytest.mark.parametrize(("given", "words"), [("0", 0), ("8", 2), ("%r9", 1)])
def test_missing_bytes_are_zeros(given: str, words: int) -> None:
    """As many as a register or a number says; from the rest of the source nothing is read."""
    x, y = torch.arange(512, dtype=torch.int32), torch.full((64, 4), -1, dtype=torch.int32)
    body = "mov.u32 %r9, 4;\n" + COPY.replace("BYTES", given).replace(
        "[%rd6+1024]", "[%rd6+2048]" if words == 0 else "[%rd6+1024]"
    )
    run_body(body + "cp.async.wait_all;\n" + READ_SECOND, x, y, shared=2048)
    assert torch.equal(y[:, :words], x.view(2, 64, 4)[1, :, :words])
    assert (y[:, words:] == 0).all()


def test_uncommitted_copies_belong_to_no_group() -> None:
    """``wait_group 0`` does not wait for them, ``wait_all`` does."""
    extra = "cp.async.ca.shared.global [%r3+2048], [%rd6], 4;"
    read = "ld.shared.u32 %r4, [%r3+2048];\nst.global.u32 [%rd7], %r4;"
    for wait, fails in (("cp.async.wait_group 0;", True), ("cp.async.wait_all;", False)):
        x, y = torch.arange(512, dtype=torch.int32), torch.zeros(64, 4, dtype=torch.int32)
        body = "\n".join([COPY.replace("BYTES", "16"), extra, wait, read])
        if fails:
            with pytest.raises(DeviceError, match="not waited for"):
                run_body(body, x, y, shared=3072)
        else:
            run_body(body, x, y, shared=3072)
            assert torch.equal(y[:, 0], x.view(2, 64, 4)[0, :, 0])
