from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from matplotlib import colormaps
from torch import Tensor, nn

from mmquad.analysis.pictures.receptive_field import (
    area_side,
    draw_receptive_fields,
    effective_receptive_field,
)
from mmquad.registry import MODELS


class Convolution(nn.Module):
    """A map whose field is known: a k x k square of equal weights."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, side, padding=side // 2)
        nn.init.ones_(self.conv.weight)
        nn.init.constant_(self.conv.bias, 1000)  # positive channels count

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.conv(x),)


def test_the_field_of_a_convolution_is_its_kernel():
    model = Convolution(5).train()
    field = effective_receptive_field(model, torch.randn(2, 3, 21, 21))
    expected = np.zeros((21, 21))
    expected[8:13, 8:13] = 1 / 25
    np.testing.assert_allclose(field, expected)
    assert model.training
    assert area_side(field, 1.0) == pytest.approx(5 / 21)
    assert area_side(field, 9 / 25) == pytest.approx(3 / 21)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (
            "QuadMamba",
            {"arch": {"dim": 8, "depths": (1, 1), "ssm_ratio": 1.0}, "out_indices": (1,)},
        ),
        ("VMamba", {"arch": "vanilla-tiny", "out_indices": (0,)}),
    ],
)
def test_registered_backbones_see_far_beyond_their_convolutions(name: str, settings: dict):
    torch.manual_seed(0)
    backbone = MODELS.build({"type": f"mmquad.{name}", **settings})
    field = effective_receptive_field(backbone, torch.randn(1, 3, 64, 64))
    assert field.shape == (64, 64)
    assert field.sum() == pytest.approx(1)
    assert (field >= 0).all()
    assert np.count_nonzero(field) > 64 * 64 / 2


def test_the_picture(tmp_path: Path):
    rows, columns = np.indices((48, 48)) - 23.5
    fields = {}
    for title, width in (("narrow", 3), ("wide", 12)):
        field = np.exp(-(rows**2 + columns**2) / (2 * width**2))
        fields[title] = field / field.sum()
    path = draw_receptive_fields(fields, tmp_path / "new/fields.png")
    assert path.stat().st_size < 100_000
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    left, right = image[:, : image.shape[1] // 2], image[:, image.shape[1] // 2 :]
    assert (left < 10).sum() > 2 * (right < 10).sum()  # black: a thousandth and less


def test_an_image_is_needed():
    with pytest.raises(ValueError, match="at least one image"):
        effective_receptive_field(Convolution(3), torch.zeros(0, 3, 8, 8))


def test_the_colours_are_those_of_the_colour_map(tmp_path: Path):
    fields = {"a": np.full((40, 40), 1 / 1600)}
    picture = cv2.imread(str(draw_receptive_fields(fields, tmp_path / "x.png")))[..., ::-1]
    seen = set(map(tuple, picture.reshape(-1, 3).tolist()))
    table = (255 * colormaps["magma"](np.arange(256))[:, :3]).round().astype(int).tolist()
    assert len(seen & set(map(tuple, table))) > 200
