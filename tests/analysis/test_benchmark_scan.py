"""The benchmark compares like with like."""

import pytest
import torch

from mmquad.analysis import benchmark_scan
from mmquad.analysis.benchmark_scan import LayerCase, benchmark_layer, table
from mmquad.analysis.unfused_layer import unfused_scan
from mmquad.layers.selective_ssm import SelectiveSSM


@pytest.mark.parametrize("directions", [2, 4])
def test_the_unfused_pipeline_is_the_same_layer(directions: int) -> None:
    torch.manual_seed(0)
    ssm = SelectiveSSM(8, 2, 3, directions)
    with torch.no_grad():
        for parameter in ssm.parameters():  # no two directions or channels alike
            parameter.add_(0.3 * torch.randn_like(parameter))
    x = torch.randn(3, 63, 8, requires_grad=True)
    tables = benchmark_scan._tables(LayerCase(3, 7, 9, 8, directions, 2), torch.device("cpu"))
    leaves = [x, *ssm.parameters(), *(t for t in tables if t.requires_grad)]
    results = []
    for layer in (unfused_scan, benchmark_scan._fused_scan):
        y = layer(ssm, x, *tables)
        results.append([y, *torch.autograd.grad(y.sin().sum(), leaves)])
    for mine, theirs in zip(*results, strict=True):
        assert (mine - theirs).norm() <= 2e-5 * theirs.norm()


def test_rows_and_table() -> None:
    rows = benchmark_layer(LayerCase(2, 3, 5, 8, 4, 1), ["chunked", "reference"], repetitions=2)
    assert [row["implementation"] for row in rows] == ["unfused", "chunked", "reference"] * 2
    assert all(row["median_ms"] >= row["best_ms"] > 0 for row in rows)
    assert all(row["speedup_best"] == 1 for row in rows if row["implementation"] == "unfused")
    assert len(table(rows).splitlines()) == 2 + len(rows)
    with pytest.raises(ValueError, match="K must be 2"):
        benchmark_layer(LayerCase(1, 2, 2, 8, 1, 1), ["chunked"], repetitions=1)
