"""The Triton kernels compile for real targets, as often as expected and without spills.

The interpreter of test_triton_scan.py takes things that the compiler does not.
"""

import pytest
import torch

from benchmarks.triton_variants import (
    compile_directional_scan,
    compile_selective_scan,
    compiling_for,
)
from mmquad.ops.triton import interpreting

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(interpreting(), reason="Triton interprets in this process")

SCAN = {"chunk_ends", "combine_chunks", "outputs"}
PROJECTIONS = {"project_to_ranks", "project_to_weights"}


def test_hopper() -> None:
    with compiling_for("sm_90") as variants:
        compile_directional_scan(torch.bfloat16, windows=True)
        fused = len(variants)
        compile_selective_scan()
    assert {v.kernel for v in variants.values()} == SCAN | PROJECTIONS | {"gradients"}
    # Forward and reverse of the first two; then once each.
    assert fused == 2 + 2 + 1 + 1 + 2
    # Two forms of chunk ends, one more of their combination, the output and the gradient.
    assert len(variants) - fused == 2 + 1 + 1 + 1
    for variant in variants.values():
        assert variant.spilled <= 16, variant
        assert variant.shared <= 16 * 1024, variant
        # 16 programs of one warp on a multiprocessor; the gradient makes do with 8.
        assert variant.registers <= (255 if variant.kernel == "gradients" else 128), variant


def test_instinct() -> None:
    with compiling_for("gfx942") as variants:
        compile_directional_scan(torch.float16, backward=False)
    assert {v.kernel for v in variants.values()} == SCAN
    assert all(variant.spilled == 0 for variant in variants.values())


def test_sizes_compile_nothing_anew() -> None:
    """Of a network's many sizes of layer and image, the first compiles for all."""
    with compiling_for("sm_90") as variants:
        compile_directional_scan(torch.bfloat16, backward=False)
        known = dict(variants)
        for batch, length, channels, states, ranks in (
            (1, 257, 16, 1, 1),
            (3, 16, 1, 1, 16),
            (2, 17000, 33, 2, 48),
        ):
            sizes = {"channels": channels, "states": states, "ranks": ranks}
            compile_directional_scan(
                torch.bfloat16, batch=batch, length=length, backward=False, **sizes
            )
        assert variants == known


def test_every_size_and_pointer_stays_out_of_compilation() -> None:
    from mmquad.ops.selective_scan import triton_backward, triton_forward, triton_projection

    for kernel in (
        triton_forward.chunk_ends,
        triton_forward.combine_chunks,
        triton_forward.outputs,
        triton_backward.gradients,
        triton_projection.project_to_ranks,
        triton_projection.project_to_weights,
    ):
        for parameter in kernel.params:
            assert parameter.is_constexpr or parameter.do_not_specialize, parameter.name


@pytest.mark.parametrize("target", ["sm90", "cpu"])
def test_unknown_targets(target: str) -> None:
    with (
        pytest.raises(ValueError, match="must be sm_<number> or gfx<name>"),
        compiling_for(target),
    ):
        pass
