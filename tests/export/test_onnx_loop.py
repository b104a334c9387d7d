"""The scans as loops of ONNX: their parts against the ops, a node per layer, standard operators."""

import pytest
import torch
from torch import Tensor

from mmquad.backbones import QuadMamba
from mmquad.export import onnx_scan
from mmquad.export.onnx_files import SCAN_FORMS, export_onnx
from mmquad.ops.selective_scan.reference import selective_scan_reference
from mmquad.scans import CrossScan, LocalScan, QuadScan

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

CPU, HEIGHT, WIDTH, CHANNELS = torch.device("cpu"), 5, 6, 7


def recurrence(
    delta: Tensor, drive: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """What a node ``Recurrence`` stands for, token by token."""
    outputs = []
    for t in range(len(delta)):
        decay = torch.exp(delta[t, :, :, None] * A)  # [B, K, N, D]
        state = decay * state + B[t, ..., None] * drive[t, :, :, None]
        outputs.append((C[t, ..., None] * state).sum(2))
    return torch.stack(outputs), state


@pytest.fixture
def in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_scan, "_recurrence", recurrence)


def random_layer(directions: int, states: int, ranks: int, dtype: torch.dtype) -> list[Tensor]:
    """``x, z, dt_weight, dt_bias, A, D_skip`` of a layer and two samples."""
    torch.manual_seed(directions + states)
    columns = directions * (ranks + 2 * states)
    return [
        torch.randn(2, HEIGHT * WIDTH, CHANNELS, dtype=dtype),
        torch.randn(2, HEIGHT * WIDTH, columns, dtype=dtype),
        torch.randn(directions, CHANNELS, ranks, dtype=dtype),
        torch.randn(directions, CHANNELS, dtype=dtype),
        -torch.rand(directions, CHANNELS, states, dtype=dtype) * 3,
        torch.randn(directions, CHANNELS, dtype=dtype),
    ]


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("given", [False, True], ids=["from zero", "from a state"])
@pytest.mark.parametrize(("states", "ranks"), [(1, 2), (3, 1)])
@pytest.mark.parametrize(
    "scan", [CrossScan(), LocalScan(("h", "w3_flip")), QuadScan()], ids=lambda s: type(s).__name__
)
def test_the_directional_scan_around_the_loop(in_torch, scan, states, ranks, given, merge):
    tables = scan.tables(HEIGHT, WIDTH, CPU)
    layer = random_layer(scan.directions, states, ranks, torch.float64)
    choice = (None, None)
    if isinstance(scan, QuadScan):
        choice = (tables.window, torch.eye(4, dtype=torch.float64)[[1, 3]])
    initial = torch.randn(2, scan.directions, CHANNELS, states, dtype=torch.float64)
    options = (merge, "reference", False, initial if given else None)
    arguments = (*layer, tables.order, tables.inverse, *choice, *options)
    op = torch.ops.mmquad.directional_scan.default
    mine, _ = onnx_scan.loop_decompositions()[op](*arguments)
    torch.testing.assert_close(mine, op(*arguments)[0], rtol=1e-10, atol=1e-10)


def test_sixteen_bits_are_scanned_in_thirty_two(in_torch):
    tables = CrossScan().tables(HEIGHT, WIDTH, CPU)
    layer = random_layer(4, 2, 2, torch.float32)
    arguments = (layer[0].half(), *layer[1:], tables.order, tables.inverse, None, None)
    op = torch.ops.mmquad.directional_scan.default
    for dtype in (None, torch.float16):
        options = (True, "reference", False, None, dtype)
        mine, _ = onnx_scan.loop_decompositions()[op](*arguments, *options)
        expected = op(*arguments, *options)[0]
        assert mine.dtype == expected.dtype
        torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("given", [False, True], ids=["without", "with"])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_selective_scan_around_the_loop(in_torch, groups, given):
    torch.manual_seed(groups)
    u, delta = torch.randn(2, 2, 4, 9, dtype=torch.float64)
    A = -torch.rand(4, 3, dtype=torch.float64) * 4
    B, C = torch.randn(2, 2, groups, 3, 9, dtype=torch.float64)
    optional = (torch.randn(4), torch.randn(4)) if given else (None, None)
    optional = tuple(None if value is None else value.double() for value in optional)
    state = torch.randn(2, 4, 3, dtype=torch.float64) if given else None
    op = torch.ops.mmquad.selective_scan.default
    mine = onnx_scan.loop_decompositions()[op](
        u, delta, A, B, C, *optional, True, torch.float64, "reference", state
    )
    expected = selective_scan_reference(u, delta, A, B, C, *optional, True, state)
    for value, reference in zip(mine, expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("length", [1, 5])
def test_the_node_is_the_recurrence(length):
    """In onnxruntime, on its own: which axis is which, and what enters."""
    onnxruntime = pytest.importorskip("onnxruntime")
    batch, directions, states = 2, 3, 4
    torch.manual_seed(0)
    names = ["deltas", "drives", "A", "Bs", "Cs", "state"]
    inputs = [
        torch.rand(length, batch, directions, CHANNELS),
        torch.randn(length, batch, directions, CHANNELS),
        -torch.rand(directions, states, CHANNELS),
        torch.randn(length, batch, directions, states),
        torch.randn(length, batch, directions, states),
        torch.randn(batch, directions, states, CHANNELS),
    ]
    expected = recurrence(*inputs)
    for i, axis in ((0, -2), (1, -2), (3, -1), (4, -2)):
        inputs[i] = inputs[i].unsqueeze(axis)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Recurrence", names, ["ys", "last"], domain="mmquad")],
        "graph",
        [
            helper.make_tensor_value_info(name, kind, value.shape)
            for name, value in zip(names, inputs, strict=True)
        ],
        [
            helper.make_tensor_value_info("ys", kind, inputs[1].shape),
            helper.make_tensor_value_info("last", kind, inputs[5].shape),
        ],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mmquad", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    inlined = onnx_scan.inline_recurrences(model)
    onnx.checker.check_model(inlined)
    session = onnxruntime.InferenceSession(inlined.SerializeToString())
    feeds = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    y, last = (torch.from_numpy(value) for value in session.run(None, feeds))
    torch.testing.assert_close(y.squeeze(-2), expected[0])
    torch.testing.assert_close(last, expected[1])


@pytest.mark.slow
def test_a_file_has_one_loop_per_layer_and_standard_operators(tmp_path):
    model = QuadMamba({"dim": 8, "depths": (1, 2), "ssm_ratio": 1, "quad_stages": (0,)}).eval()
    export_onnx(model, torch.randn(1, 3, 40, 33), tmp_path / "model.onnx")
    exported = onnx.load(tmp_path / "model.onnx")
    assert [node.op_type for node in exported.graph.node].count("Scan") == 3
    assert [entry.domain for entry in exported.opset_import] == [""]
    assert {node.domain for node in exported.graph.node} == {""}
    assert not exported.functions


def test_unknown_forms_are_named(tmp_path):
    with pytest.raises(ValueError, match=f"one of {', '.join(SCAN_FORMS)}, got 'magic'"):
        export_onnx(torch.nn.Identity().eval(), torch.randn(1, 3, 8, 8), tmp_path, scan="magic")
