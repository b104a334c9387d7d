"""QuadMamba with other windows: which scans its blocks get, and what they leave as it was."""

import pytest
import torch

from mmquad.backbones import FixedWindowQuadMamba, QuadMamba
from mmquad.backbones.quadmamba import QUADTREES
from mmquad.layers import QuadMixer, ScanMixer
from mmquad.scans import CrossScan, LocalScan, QuadScan
from mmquad.scans.quad import SHIFT_CYCLE

SMALL = {"dim": 8, "depths": (2, 4, 1, 1), "ssm_ratio": 1}


def mixers(model: QuadMamba) -> list[list[ScanMixer]]:
    return [[m for m in stage.modules() if isinstance(m, ScanMixer)] for stage in model.stages]


def shifts(quadtree: dict | str) -> list[list[tuple[int, int]]]:
    with torch.device("meta"):
        stages = mixers(QuadMamba(SMALL, quadtree=quadtree))
    return [[mixer.scan.shift for mixer in stage] for stage in stages[:2]]


def test_shift_directions() -> None:
    none, one, back, out = (0, 0), (1, 1), (-1, -1), (1, -1)
    assert shifts("paper") == [[none, one], [none, back, none, out]]
    assert shifts({"shifts": ((0, 0),)}) == [[none] * 2, [none] * 4]
    assert shifts({"shifts": ((1, 1),)}) == [[none, one], [none, one, none, one]]
    # A config's lists do as well as tuples.
    assert shifts({"shifts": [[1, 1], [-1, -1]]}) == [[none, one], [none, back, none, one]]


@pytest.mark.parametrize(
    ("side", "names"), [(14, ("w14", "w14_flip")), (2, ("w2", "w2_flip")), (0, ("h", "h_flip"))]
)
def test_fixed_windows_replace_the_quadtree_with_as_many_directions(side, names) -> None:
    with torch.device("meta"):
        model = FixedWindowQuadMamba(SMALL, window=side)
    assert model.settings() == {"window": side}
    stages = mixers(model)
    for mixer in (*stages[0], *stages[1]):
        assert mixer.scan == LocalScan(names, padded=False)
        assert mixer.scan.directions == QuadScan().directions
        assert not isinstance(mixer, QuadMixer), "nothing to choose"
    assert [m.scan for m in (*stages[2], *stages[3])] == [CrossScan()] * 2


def test_a_model_without_windows_lacks_the_score_predictors_only() -> None:
    """Equal shapes of all else: the ablation changes nothing but what it is named after."""
    with torch.device("meta"):
        quad, rows = QuadMamba("tiny"), FixedWindowQuadMamba("tiny", window=0)
    shapes = {k: v.shape for k, v in quad.state_dict().items() if ".selector." not in k}
    assert {k: v.shape for k, v in rows.state_dict().items()} == shapes


@pytest.mark.parametrize(
    "quadtree", [{"coarse_level": 0}, {"coarse_level": 2, "top_k": 4}, {"levels": 3}, {"top_k": 2}]
)
def test_learned_ones_have_the_same_parameters_and_other_outputs(quadtree: dict) -> None:
    torch.manual_seed(0)
    default, other = (QuadMamba(SMALL, quadtree=q).eval() for q in ("paper", quadtree))
    with torch.no_grad():  # away from the small initial weights
        for parameter in default.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    other.load_state_dict(default.state_dict(), strict=True)
    image = torch.randn(1, 3, 128, 96)
    with torch.no_grad():
        assert not torch.allclose(default(image)[0], other(image)[0], atol=1e-3)
        assert torch.equal(other(image)[0], other(image)[0]), "evaluation is deterministic"
    mixer = other.stages[0][1].mixer
    assert mixer.selector.top_k == quadtree.get("top_k", 1)
    assert mixer.scan.coarse_level == quadtree.get("coarse_level", 1)
    assert mixer.scan.levels == quadtree.get("levels", 2)


def test_settings_name_what_weights_were_trained_with() -> None:
    with torch.device("meta"):
        for name in QUADTREES:
            assert QuadMamba(SMALL, quadtree=name).settings() == {"quadtree": name}
        assert QuadMamba(SMALL, quadtree={"levels": 2}).settings() == {"quadtree": "paper"}
        listed = QuadMamba(SMALL, quadtree={"shifts": [list(s) for s in SHIFT_CYCLE]})
        assert listed.settings() == {"quadtree": "paper"}
        found = QuadMamba(SMALL, quadtree={"top_k": 2}).settings()["quadtree"]
    assert (found["top_k"], found["levels"], found["nested"]) == (2, 2, True)


@pytest.mark.parametrize(
    ("quadtree", "message"),
    [
        ({"shifts": ()}, r"shifts must be pairs of -1, 0 and 1, at least one.*got \[\]"),
        ({"shifts": ((2, 0),)}, r"shifts must be pairs of -1, 0 and 1.*got \[\(2, 0\)\]"),
        ({"shifts": ((1,),)}, "shifts must be pairs"),
        ({"top_k": 5}, "top_k must be at most the 4 windows, got 5"),
        ({"levels": 3, "nested": False}, "three levels exist in nested order only"),
    ],
)
def test_impossible_settings(quadtree: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuadMamba(SMALL, quadtree=quadtree)


def test_impossible_fixed_windows() -> None:
    with pytest.raises(ValueError, match="window must be a side of at least 0 tokens, got -1"):
        FixedWindowQuadMamba(SMALL, window=-1)
    with pytest.raises(TypeError, match="takes no quadtree"):
        FixedWindowQuadMamba(SMALL, window=2, quadtree="paper")
    with pytest.raises(TypeError, match="windows"):
        FixedWindowQuadMamba(SMALL, window=2, windows=3)
