"""Exported graphs give the model's outputs: torch.export and ONNX, every family, two sizes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mmquad.backbones import (
    EfficientVMamba,
    GroupMamba,
    LocalVim,
    LocalVMamba,
    MambaVision,
    PlainMamba,
    QuadMamba,
    SpatialMamba,
    Vim,
    VMamba,
)
from mmquad.export import (
    check_onnx,
    check_program,
    export_onnx,
    export_program,
    scan_decompositions,
)
from mmquad.export.doubling import selective_scan_doubling
from mmquad.layers.window_selector import WindowSelector
from mmquad.ops.selective_scan.reference import selective_scan_reference
from mmquad.scans import QuadScan

ROOT = Path(__file__).parents[2]
TOLERANCE = 1e-4
SIZE = {"dim": 8, "depths": (1, 1), "ssm_ratio": 1}
QUAD = SIZE | {"quad_stages": (0,)}
BACKBONES = {
    "quadmamba": lambda: QuadMamba(QUAD, out_indices=(0, 1)),
    "quadmamba-released": lambda: QuadMamba(QUAD, out_indices=(0, 1), quadtree="released"),
    "vmamba": lambda: VMamba(SIZE, out_indices=(0, 1)),
    "mambavision": lambda: MambaVision(
        {"dim": 8, "stem_dim": 4, "depths": (1, 1, 2), "num_heads": (2,), "window": (3,)}
    ),
    "efficientvmamba": lambda: EfficientVMamba(
        {"dim": 8, "depths": (1, 1), "scan_stages": 1, "d_state": 2}, out_indices=(0, 1)
    ),
    "groupmamba": lambda: GroupMamba(
        {"dims": (8, 12), "stem_dim": 4, "depths": (1, 1), "mlp_ratios": (2, 2)}
    ),
    "spatialmamba": lambda: SpatialMamba({"dim": 8, "depths": (1, 1)}, out_indices=(0, 1)),
    "vim": lambda: Vim({"dim": 16, "depth": 1}, out_indices=(0,)),
    "localvmamba": lambda: LocalVMamba(
        {"dim": 8, "depths": (1, 1), "directions": ["h v_flip w2 w7_flip"]}, out_indices=(0, 1)
    ),
    "localvim": lambda: LocalVim({"dim": 16, "depth": 1}, out_indices=(0,)),
    "quadmamba-three-levels": lambda: QuadMamba(
        QUAD, out_indices=(0, 1), quadtree={"levels": 3, "top_k": 2}
    ),
    "plainmamba": lambda: PlainMamba({"dim": 16, "depth": 1}, out_indices=(0,)),
}
SIZES = [(64, 64), (50, 71)]


@pytest.fixture(scope="module", params=BACKBONES)
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    model = BACKBONES[request.param]().eval()
    for module in model.modules():
        if isinstance(module, WindowSelector):
            # Fresh scores tie to a few units of rounding, which would choose the window.
            for parameter in module.head.parameters():
                parameter.data.mul_(30)
    return model


def test_a_program_needs_no_op_of_this_package_and_agrees(model):
    image = torch.randn(2, 3, *SIZES[1])
    program = export_program(model, image)
    assert not [node for node in program.graph.nodes if "mmquad" in str(node.target)]
    assert max(check_program(program, model, image)) < TOLERANCE


def test_a_program_may_keep_the_ops(model):
    image = torch.randn(1, 3, *SIZES[1])
    program = export_program(model, image, keep_scan_ops=True)
    assert [node for node in program.graph.nodes if "mmquad" in str(node.target)]
    assert max(check_program(program, model, image)) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("size", "scan"), [(SIZES[0], "doubling"), (SIZES[1], "loop")])
def test_an_onnx_file_agrees_in_onnxruntime(model, size, scan, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    image = torch.randn(2, 3, *size)
    export_onnx(model, image, tmp_path / "model.onnx", scan=scan)
    assert max(check_onnx(tmp_path / "model.onnx", model, image)) < TOLERANCE


def test_a_model_in_training_mode_is_refused():
    with pytest.raises(ValueError, match="expected a model in eval mode"):
        export_program(BACKBONES["quadmamba"]().train(), torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize("length", [1, 2, 49, 64, 65])
@pytest.mark.parametrize("groups", [1, 2])
def test_doubling_gives_the_recurrence(length, groups):
    torch.manual_seed(length)
    u, delta = torch.randn(2, 2, 4, length, dtype=torch.float64)
    A = -torch.rand(4, 3, dtype=torch.float64) * 4
    B, C = torch.randn(2, 2, groups, 3, length, dtype=torch.float64)
    D, bias = torch.randn(2, 4, dtype=torch.float64)
    for skip, shift in ((D, bias), (None, None)):
        arguments = (u, delta, A, B, C, skip, shift, True)
        for mine, reference in zip(
            selective_scan_doubling(*arguments), selective_scan_reference(*arguments), strict=True
        ):
            torch.testing.assert_close(mine, reference, rtol=1e-12, atol=1e-12)


TABLE_OPS = ["gather_tokens", "merge_tokens", "return_directions"]


@pytest.mark.parametrize("op", TABLE_OPS)
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("empty", [0, 3])
def test_reordering_ops_decompose_to_what_they_do(op, rows, empty):
    torch.manual_seed(0)
    order = torch.stack([torch.randperm(7 + empty) for _ in range(3 * rows)]).view(rows, 3, -1)
    inverse = order.argsort(-1)[..., :7]
    index = order.masked_fill(order >= 7, -1)
    x = torch.randn(2, 7, 4) if op == "gather_tokens" else torch.randn(2, 7 + empty, 3, 4)
    overload = getattr(torch.ops.mmquad, op).default
    mine = scan_decompositions()[overload](x, index, inverse)
    torch.testing.assert_close(mine, overload(x, index, inverse))


def test_windowed_reordering_decomposes_to_what_it_does():
    torch.manual_seed(0)
    tables = QuadScan().tables(6, 5, torch.device("cpu"))
    weight = torch.eye(4)[[1, 3]]
    arguments = (weight, tables.order, tables.inverse, tables.window)
    table = scan_decompositions()
    for op, x in (
        (torch.ops.mmquad.gather_tokens_windowed.default, torch.randn(2, 30, 4)),
        (torch.ops.mmquad.merge_tokens_windowed.default, torch.randn(2, 30, 2, 4)),
    ):
        torch.testing.assert_close(table[op](x, *arguments), op(x, *arguments))


def test_the_tool_exports_checks_and_refuses_weights_that_do_not_fit(tmp_path):
    config = tmp_path / "config.py"
    config.write_text(
        "default_scope = 'mmpretrain'\n"
        "model = dict(type='ImageClassifier', backbone=dict(type='mmquad.QuadMamba', arch=dict("
        "dim=8, depths=(1, 1, 1, 1), ssm_ratio=1), out_indices=(3,)), "
        "neck=dict(type='GlobalAveragePooling'), "
        "head=dict(type='LinearClsHead', num_classes=4, in_channels=64))\n"
    )
    backbone = QuadMamba({"dim": 8, "depths": (1, 1, 1, 1), "ssm_ratio": 1}, out_indices=(3,))
    weights = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    weights |= {"head.fc.weight": torch.randn(4, 64), "head.fc.bias": torch.randn(4)}
    torch.save({"state_dict": weights}, tmp_path / "good.pth")
    del weights["head.fc.bias"]
    torch.save({"state_dict": weights}, tmp_path / "bad.pth")

    def export(checkpoint: str) -> subprocess.CompletedProcess:
        tool = ROOT / "tools/deployment/export_model.py"
        command = [sys.executable, tool, config, tmp_path / checkpoint]
        command += [tmp_path / "model.pt2", "--size", "32", "48", "--classifier"]
        return subprocess.run(command, capture_output=True, text=True)

    done = export("good.pth")
    assert done.returncode == 0, done.stderr
    assert "output_0: largest difference" in done.stdout
    assert "images (1, 3, 32, 48)" in done.stdout
    (tmp_path / "model.pt2").unlink()
    done = export("bad.pth")
    assert done.returncode == 1
    assert "head.fc.bias" in done.stderr
    assert not (tmp_path / "model.pt2").exists()
