"""What the selective scan promises besides numbers: registration, memory layout, errors."""

import pytest
import torch
from cotangents import project
from cpu_backends import cpu_backends
from torch import Tensor

from mmquad.ops import selective_scan, use_backend
from mmquad.ops.backend import ENVIRONMENT_VARIABLE
from mmquad.ops.selective_scan import BACKENDS

every_backend = pytest.mark.parametrize("backend", cpu_backends(BACKENDS))


def make_arguments(dtype: torch.dtype = torch.float64, length: int = 5) -> dict[str, Tensor]:
    torch.manual_seed(0)
    arguments = {
        "u": torch.randn(2, 4, length),
        "delta": torch.randn(2, 4, length),
        "A": -torch.rand(4, 2) - 0.1,
        "B": torch.randn(2, 2, 2, length),
        "C": torch.randn(2, 2, 2, length),
        "D": torch.randn(4),
        "delta_bias": torch.randn(4),
    }
    return {name: value.to(dtype).requires_grad_() for name, value in arguments.items()}


def relayout(tensor: Tensor, layout: str) -> Tensor:
    """The same values in another memory layout."""
    if layout == "token-major":
        return tensor.transpose(1, -1).contiguous().transpose(1, -1)
    if layout == "sliced":
        return torch.stack([tensor, torch.full_like(tensor, torch.nan)], dim=-1)[..., 0]
    if layout == "batch-strided":
        return torch.stack([tensor, torch.full_like(tensor, torch.nan)], dim=1)[:, 0]
    assert layout == "channel-major"
    return tensor.contiguous()


LAYOUTS = ["channel-major", "token-major", "sliced", "batch-strided"]


@every_backend
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layout_does_not_matter_and_y_has_that_of_u(layout: str, backend: str) -> None:
    plain = {name: value.detach() for name, value in make_arguments(torch.float32, 11).items()}
    laid = {
        name: relayout(value, layout) if value.ndim > 2 else value for name, value in plain.items()
    }
    results = []
    for arguments in (plain, laid):
        leaves = {name: value.requires_grad_() for name, value in arguments.items()}
        y = selective_scan(**leaves, delta_softplus=True, backend=backend)
        grads = torch.autograd.grad(project(y), list(leaves.values()))
        results.append((y, *grads))
        assert y.stride() == torch.empty_like(leaves["u"]).stride()
        assert [g.stride() for g in grads] == [
            torch.empty_like(v).stride() for v in leaves.values()
        ]
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


@every_backend
def test_inputs_broadcast_over_the_batch(backend: str) -> None:
    arguments = {name: value.detach() for name, value in make_arguments().items()}
    u = arguments["u"][:1].expand(2, -1, -1)
    expected = selective_scan(**arguments | {"u": u.contiguous()}, backend=backend)
    torch.testing.assert_close(selective_scan(**arguments | {"u": u}, backend=backend), expected)


@every_backend
def test_inputs_are_not_modified(backend: str) -> None:
    arguments = make_arguments()
    before = {name: value.detach().clone() for name, value in arguments.items()}
    selective_scan(**arguments, delta_softplus=True, backend=backend).sum().backward()
    for name, value in arguments.items():
        assert torch.equal(value, before[name]), name


@every_backend
@pytest.mark.parametrize("layout", ["channel-major", "token-major"])
def test_opcheck(layout: str, backend: str) -> None:
    arguments = make_arguments(torch.float32)
    samples = [relayout(v, layout) if v.ndim > 2 else v for v in arguments.values()]
    leaves = [value.detach().requires_grad_() for value in samples]
    op = torch.ops.mmquad.selective_scan.default
    torch.library.opcheck(op, (*leaves, True, torch.float32, backend))
    backward = torch.ops.mmquad.selective_scan_backward.default
    detached = [value.detach() for value in leaves]
    dy, dlast = torch.randn_like(detached[0]), torch.randn(2, 4, 2)
    torch.library.opcheck(backward, (dy, dlast, *detached, True, backend))


@every_backend
def test_opcheck_without_optional_inputs(backend: str) -> None:
    u, delta, A, B, C, _, _ = make_arguments(torch.bfloat16).values()
    op = torch.ops.mmquad.selective_scan.default
    torch.library.opcheck(
        op,
        (u, delta, A, B, C, None, None, False, torch.float32, backend),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


@every_backend
@pytest.mark.parametrize("delta_softplus", [True, False])
def test_gradcheck(delta_softplus: bool, backend: str) -> None:
    names, values = zip(*make_arguments().items(), strict=True)

    def function(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        return selective_scan(
            **dict(zip(names, tensors, strict=True)),
            delta_softplus=delta_softplus,
            return_last_state=True,
            backend=backend,
        )

    assert torch.autograd.gradcheck(function, values)


def test_second_derivatives_are_refused() -> None:
    arguments = make_arguments()
    y = selective_scan(**arguments)
    (du,) = torch.autograd.grad(y.square().sum(), arguments["u"], create_graph=True)
    with pytest.raises(RuntimeError, match="selective_scan_backward"):
        du.sum().backward()


SCHEMA = torch.ops.mmquad.selective_scan.default._schema


class Recorder:
    """A torch.compile backend that runs graphs as they are and notes which scans they call."""

    def __init__(self) -> None:
        self.chosen: list[str] = []

    def __call__(self, graph: torch.fx.GraphModule, example_inputs: list[Tensor]):
        for node in graph.graph.nodes:
            if "mmquad.selective_scan" in str(node.target):
                names = [argument.name for argument in SCHEMA.arguments]
                given = dict(zip(names, node.args, strict=False)) | node.kwargs
                self.chosen.append(given["backend"])
        return graph.forward


@pytest.fixture
def _fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_fresh_dynamo")
def test_compiled_code_follows_the_choice_of_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    recorder = Recorder()
    arguments = {name: value.detach() for name, value in make_arguments().items()}
    scan = torch.compile(lambda: selective_scan(**arguments), fullgraph=True, backend=recorder)
    scan()
    with use_backend("reference"):
        scan()
    scan()
    best = "chunked" if BACKENDS["native"].unavailable() else "native"
    assert recorder.chosen == [best, "reference"], "the third call must reuse the first graph"


@every_backend
@pytest.mark.usefixtures("_fresh_dynamo")
def test_compiled_outputs_and_gradients(backend: str) -> None:
    arguments = make_arguments()

    def scan() -> tuple[Tensor, Tensor]:
        return selective_scan(
            **arguments, delta_softplus=True, return_last_state=True, backend=backend
        )

    compiled = torch.compile(scan, fullgraph=True, backend="aot_eager")
    leaves = list(arguments.values())
    results = (torch.autograd.grad(project(function()), leaves) for function in (compiled, scan))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_runs_on_the_meta_device() -> None:
    arguments = {name: value.detach().to("meta") for name, value in make_arguments().items()}
    y, last = selective_scan(**arguments, return_last_state=True)
    assert (y.shape, last.shape) == ((2, 4, 5), (2, 4, 2))


def test_float64_input_keeps_a_float64_state() -> None:
    _, last = selective_scan(**make_arguments(), return_last_state=True)
    assert last.dtype == torch.float64


BAD_INPUTS = [
    ({"u": torch.zeros(4, 5)}, r"u must be \[B, D, L\] with D, L >= 1, got \(4, 5\)"),
    ({"u": torch.zeros(2, 4, 0)}, r"u must be \[B, D, L\] with D, L >= 1, got \(2, 4, 0\)"),
    ({"delta": torch.zeros(2, 4, 6)}, r"delta must be \(2, 4, 5\) like u, got \(2, 4, 6\)"),
    ({"A": torch.zeros(3, 2)}, r"A must be \[D, N\] with D=4, N >= 1, got \(3, 2\)"),
    ({"A": torch.zeros(4, 0)}, r"A must be \[D, N\] with D=4, N >= 1, got \(4, 0\)"),
    ({"B": torch.zeros(2, 3, 5)}, r"B must be \[B, N, L\]=\(2, 2, 5\).* got \(2, 3, 5\)"),
    ({"B": torch.zeros(2, 3, 2, 5)}, r"G dividing D=4.* got \(2, 3, 2, 5\)"),
    ({"C": torch.zeros(2, 2, 2, 4)}, r"C must be .* got \(2, 2, 2, 4\)"),
    ({"C": torch.zeros(4, 1)}, r"or \[D, N\]=\(4, 2\); got \(4, 1\)"),
    ({"D": torch.zeros(4, 1)}, r"D must be \[D\]=\(4,\), got \(4, 1\)"),
    ({"delta_bias": torch.zeros(3)}, r"delta_bias must be \[D\]=\(4,\), got \(3,\)"),
    ({"z": torch.zeros(2, 4, 1)}, r"z must be \(2, 4, 5\) like u"),
    (
        {"u": torch.zeros(2, 4, 5, dtype=torch.int64)},
        r"u must be real and floating point, got .*int64",
    ),
    (
        {"A": torch.zeros(4, 2, dtype=torch.complex64)},
        "A must be real and floating point, got torch.complex64",
    ),
    ({"B": torch.zeros(2, 2, 5, dtype=torch.complex64)}, "B must be real.* got torch.complex64"),
    ({"D": torch.zeros(4, device="meta")}, "all tensors must be on cpu like u, got D on meta"),
    ({"C": torch.zeros(2, 2, 5, device="meta")}, "C must be .* on cpu, got .* on meta"),
    ({"z": torch.zeros(2, 4, 5, dtype=torch.int64)}, "z must be real.* got torch.int64"),
    ({"out_dtype": torch.int32}, "out_dtype must be real and floating point, got torch.int32"),
    ({"backend": "fastest"}, "no backend 'fastest'; there are"),
]


@pytest.mark.parametrize(("change", "message"), BAD_INPUTS)
def test_errors_say_what_was_expected_and_got(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        selective_scan(**make_arguments(torch.float32) | change)
