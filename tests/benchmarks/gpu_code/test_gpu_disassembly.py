"""Listings of machine code, read into blocks."""

import pytest

from benchmarks.gpu_code.disassembly import MachineInstruction, read_listing

LISTING = """
\t.target\tsm_90
//--------------------- .text.second                --------------------------
\t.section\t.text.second,"ax",@progbits
second:
.text.second:
\t//## File ".nv_debug_ptx_txt", line 10
        /*0000*/                   LDC R1, c[0x0][0x28] ;
\t//## File ".nv_debug_ptx_txt", line 12
        /*0010*/                   MUFU.EX2 R2, R1 ;
        /*0020*/              @!P0 BRA `(.L_x_1) ;
\t//## File ".nv_debug_ptx_txt", line 13
        /*0030*/             @!UP1 UIADD3 UR4, UR4, 0x1, URZ ;
.L_x_1:
        /*0040*/                   FFMA R2, R2, R3, R4 ;
        /*0050*/               @P2 EXIT ;
.L_x_2:
        /*0060*/                   BRA `(.L_x_2);
.text.first:
        /*0000*/                   EXIT ;
"""


def test_blocks_begin_at_labels_and_after_branches() -> None:
    kernels = read_listing(LISTING)
    assert kernels["second"] == [
        [("LDC", 10), ("MUFU.EX2", 12), ("BRA", 12)],
        [("UIADD3", 13)],
        [("FFMA", 13), ("EXIT", 13)],
        [("BRA", 13)],
    ]
    assert kernels["first"] == [[("EXIT", None)]]
    assert list(kernels) == ["second", "first"]


@pytest.mark.parametrize(
    ("opcode", "kind"),
    [
        ("FFMA.FTZ", "float"),
        ("MUFU.EX2", "special function"),
        ("LDS.128", "shared memory"),
        ("LDSM.16.M88.4", "shared memory"),
        ("LDGSTS.E.BYPASS.128", "shared memory"),
        ("LDG.E.64", "global memory"),
        ("ST.E", "global memory"),
        ("STL", "local memory"),
        ("HMMA.16816.F32.BF16", "matrix"),
        ("HFMA2.MMA", "move"),  # how the compiler writes a constant on the other pipe
        ("HFMA2", "move"),  # the same for compute capability 10
        ("HFMA2.BF16_V2", "conversion"),
        ("IMAD.MOV.U32", "move"),
        ("IMAD.WIDE", "integer"),
        ("ULDC.64", "move"),
        ("UIADD3", "integer"),
        ("USHF.R.S32.HI", "integer"),
        ("LDGDEPBAR", "barrier"),
        ("BSSY", "control"),
    ],
)
def test_classes(opcode: str, kind: str) -> None:
    assert MachineInstruction(opcode, None).kind == kind


def test_an_opcode_without_a_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no class .* for XYZZY"):
        _ = MachineInstruction("XYZZY.F32", None).kind
