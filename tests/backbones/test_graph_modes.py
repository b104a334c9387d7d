"""Modes in which a model becomes a graph: rows of docs/modes.md, as in test_modes.py."""

import warnings
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from cotangents import random_cotangents
from functorch.compile import aot_module_simplified, make_boxed_func
from test_modes import FAMILIES, distance, each_family
from torch import Tensor, nn

from mmquad.export import check_program, export_program
from mmquad.layers.window_selector import WindowSelector
from mmquad.scans import library
from mmquad.scans.cache import TableCache

# None is a multiple of a stride, of a window or of another; rows and columns of maps change parity.
SIZES = [(33, 40), (50, 71), (64, 48), (37, 129)]
TABLE_BUILDERS = {
    "sort",
    "argsort",
    "scatter",
    "scatter_",
    "roll",
    "one_hot",
    "argwhere",
    "nonzero",
}
FAMILIES_WITH_TABLES = FAMILIES.keys() - {"vim", "efficientvmamba"}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(library, "table_cache", TableCache(2**24))
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def small(family: str) -> nn.Module:
    """The family's model with one block per stage, or one layer."""
    torch.manual_seed(0)
    kind, settings = FAMILIES[family]
    arch = dict(settings["arch"])
    if "depth" in arch:
        arch |= {"depth": 1}
        settings = settings | {"out_indices": (0,)}
    elif "num_heads" not in arch:  # a stage of one block has no attention
        arch |= {"depths": (1, 1)}
    if "conv_layers" in arch:
        arch |= {"conv_layers": (0,)}
    return kind(**settings | {"arch": arch}).eval()


def images(*sizes: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 3, *size, generator=generator) for size in sizes]


def outputs_and_gradients(run: Callable, model: nn.Module, image: Tensor) -> list[Tensor]:
    image = image.clone().requires_grad_()
    model.zero_grad()
    maps = run(image)
    torch.autograd.backward(maps, random_cotangents(maps))
    return [*maps, image.grad, *(p.grad for p in model.parameters())]


def assert_close(mine: list[Tensor], theirs: list[Tensor]) -> None:
    """Within 1e-5 of the largest value, each."""
    for value, expected in zip(mine, theirs, strict=True):
        bound = 1e-5 * max(float(expected.detach().abs().max()), 1e-3)
        torch.testing.assert_close(value, expected, rtol=0, atol=bound)


def names(graph: torch.fx.Graph) -> Counter:
    """What a graph calls, without namespaces and overloads."""
    calls = [node.target for node in graph.nodes if node.op in ("call_function", "call_method")]
    return Counter(each if isinstance(each, str) else each.__name__.split(".")[0] for each in calls)


class Recorder:
    """A backend that runs graphs as they are and keeps what they call.

    With ``lower``, graphs of PyTorch's own operations, forward and backward, as inductor gets them.
    """

    def __init__(self, lower: bool = False) -> None:
        self.lower = lower
        self.traced: list[Counter] = []
        self.lowered: list[Counter] = []

    def __call__(self, module: torch.fx.GraphModule, inputs: list) -> Callable:
        traced = names(module.graph)  # now: lowering changes the graph
        run = self._lowered(module, inputs) if self.lower else module
        # Last: an attempt to lower may end in a second trace of the same call.
        self.traced.append(traced)
        return run

    def _lowered(self, module: torch.fx.GraphModule, inputs: list) -> Callable:
        def keep(lowered: torch.fx.GraphModule, _: list) -> Callable:
            self.lowered.append(names(lowered.graph))
            return make_boxed_func(lowered.forward)

        return aot_module_simplified(module, inputs, fw_compiler=keep, bw_compiler=keep)


def compare_compiled(family: str, recorder: Recorder) -> None:
    model = small(family)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=recorder)
    for image in images(*SIZES):
        mine = outputs_and_gradients(compiled, model, image)
        assert_close(mine, outputs_and_gradients(model, model, image))
    assert len(recorder.traced) == 1, "one graph for images of all sizes"
    for calls in recorder.traced + recorder.lowered:
        assert not TABLE_BUILDERS & set(calls), calls
    assert bool(recorder.traced[0]["scan_tables"]) == (family in FAMILIES_WITH_TABLES)


@each_family
def test_compile_with_changing_sizes(family: str) -> None:
    """One graph for images of all sizes, differentiable, in which tables are looked up."""
    compare_compiled(family, Recorder())


@pytest.mark.slow
@pytest.mark.parametrize("family", ["localvmamba", "plainmamba"])
def test_lowered_graphs_with_changing_sizes(family: str) -> None:
    """The same down to the graphs of forward and backward that a compiler gets."""
    recorder = Recorder(lower=True)
    compare_compiled(family, recorder)
    assert len(recorder.lowered) == 2


def test_a_second_size_makes_the_last_graph() -> None:
    """What users get without ``dynamic=True``: one graph for the first size, one for all others."""
    model, recorder = small("localvmamba"), Recorder()
    compiled = torch.compile(model, fullgraph=True, backend=recorder)
    with torch.no_grad():
        for image in images(*SIZES, (41, 90)):
            assert_close([*compiled(image)], [*model(image)])
    assert len(recorder.traced) == 2


@pytest.mark.slow
def test_compile_with_inductor_leaves_the_tables_alone() -> None:
    """The default backend, which writes results into memory that it no longer needs."""
    model = small("quadmamba-released")
    with torch.no_grad():
        for selector in [m for m in model.modules() if isinstance(m, WindowSelector)]:
            # Scores of fresh weights differ by a few units of rounding, which would choose.
            for parameter in selector.head.parameters():
                parameter.mul_(30)
    (image,) = images((33, 40))
    compiled = torch.compile(model, fullgraph=True)
    for _ in range(2):
        mine = outputs_and_gradients(compiled, model, image)
        theirs = outputs_and_gradients(model, model, image)
        maps = len(model.out_indices)
        assert_close(mine[:maps], theirs[:maps])
        # Together: those of scores nearly cancel, and inductor adds up in another order.
        gradients = [torch.cat([g.flatten() for g in each[maps:]]) for each in (mine, theirs)]
        assert distance(*gradients) < 1e-5
    for key, entry in library.table_cache._entries.items():
        assert all(map(torch.equal, entry.tables, key.scan.build(key.height, key.width)))


@each_family
def test_jit_trace(family: str) -> None:
    """Checked by ``check_trace`` and on another image; a trace is of one size."""
    first, second = images((33, 40), (33, 40))
    model = small(family)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sizes become constants: torch says so for each
        traced = torch.jit.trace(model, first)
    assert_close([*traced(second)], [*model(second)])
    kinds = {node.kind().split("::")[-1] for node in traced.inlined_graph.nodes()}
    assert not TABLE_BUILDERS & kinds


@each_family
def test_export(family: str) -> None:
    """``torch.export`` for one size; tables are constants of the graph."""
    (image,) = images((33, 40))
    model = small(family)
    program = export_program(model, image, keep_scan_ops=True)
    calls = names(program.graph)
    assert not (TABLE_BUILDERS | {"scan_tables"}) & set(calls), calls
    assert max(check_program(program, model, torch.randn_like(image))) < 1e-5
