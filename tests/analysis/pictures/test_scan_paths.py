from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmquad import scans
from mmquad.analysis.pictures.figure_files import arrange_panels, write_small_png
from mmquad.analysis.pictures.scan_paths import (
    EXAMPLE_DILATIONS,
    EXAMPLE_SCANS,
    draw_scan_paths,
    neighbours,
    scan_paths,
)
from mmquad.layers import StateFusion
from mmquad.scans import AtrousScan, CrossScan, LocalScan, QuadScan


def test_every_scan_of_the_package_has_an_example():
    drawn = {type(scan).__name__ for scan in EXAMPLE_SCANS.values()}
    abstract = {"FixedScan", "Scan"}
    assert drawn == {name for name in scans.__all__ if name.endswith("Scan")} - abstract


@pytest.mark.parametrize("name", EXAMPLE_SCANS)
@pytest.mark.parametrize("size", [(8, 8), (5, 7)])
def test_every_path_visits_every_token_once(name: str, size: tuple[int, int]):
    paths = list(scan_paths(EXAMPLE_SCANS[name], *size).values())
    if isinstance(EXAMPLE_SCANS[name], AtrousScan):  # of which each has a part
        paths = [np.concatenate(paths)]
    for order in paths:
        tokens = order[order >= 0]
        np.testing.assert_array_equal(np.sort(tokens), np.arange(size[0] * size[1]))


def test_a_quadtree_has_a_path_per_window():
    paths = scan_paths(QuadScan(), 8, 8)
    assert list(paths) == [
        f"{q} chosen" for q in ("top left", "top right", "bottom left", "bottom right")
    ]
    # docs/scans.md: the first fine window of the chosen one, then the second
    assert paths["top left chosen"][:8].tolist() == [0, 1, 8, 9, 2, 3, 10, 11]
    assert paths["top right chosen"][:8].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]


def test_local_directions_keep_their_names_and_empty_positions():
    paths = scan_paths(LocalScan(("w3", "v_flip")), 4, 4)
    assert list(paths) == ["w3", "v_flip"]
    assert (paths["w3"] == -1).sum() == 36 - 16


def test_sub_grids_are_called_what_they_are():
    paths = scan_paths(AtrousScan(), 4, 4)
    assert paths["even rows, even columns"].tolist() == [0, 2, 8, 10]
    assert paths["odd rows, even columns"].tolist() == [4, 12, 6, 14]
    assert paths["even rows, odd columns"].tolist() == [1, 3, 9, 11]


@pytest.mark.parametrize("size", [(8, 8), (3, 12)])
def test_neighbours_are_those_whose_states_are_added(size: tuple[int, int]):
    """One state at a time through the layer: where it arrives is where it is drawn."""
    height, width = size
    row, column = (height - 1) // 2, (width - 1) // 2
    fusion = StateFusion(1).eval()
    (distances,) = EXAMPLE_DILATIONS.values()
    drawn = np.zeros(size)
    for distance in distances:
        np.add.at(drawn, tuple(neighbours(row, column, distance, height, width).T), 1)
    states = torch.eye(height * width).view(-1, height, width, 1)
    with torch.no_grad():
        arrived = fusion(states)[:, row, column, 0].view(size)
    np.testing.assert_allclose(drawn, arrived.numpy(), atol=1e-5)


def test_class_tokens_are_refused():
    with pytest.raises(ValueError, match="draw it without class tokens"):
        scan_paths(LocalScan(("h",), class_token=True), 4, 4)


def test_the_picture(tmp_path: Path):
    path = draw_scan_paths(EXAMPLE_SCANS, tmp_path / "new/paths.png", dilations=EXAMPLE_DILATIONS)
    image = cv2.imread(str(path))
    assert path.stat().st_size < 100_000
    assert image.shape[0] > image.shape[1]  # more scans than directions
    one = draw_scan_paths({"cross": CrossScan()}, tmp_path / "one.png", 1, 1)
    assert (cv2.imread(str(one)) < 100).any()


def test_a_small_png_keeps_few_colours_exactly(tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 2, (9, 9, 1), dtype=np.uint8) * [[[200, 30, 90]]]
    path = write_small_png(tmp_path / "x.png", image.astype(np.uint8), colors=64)
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], image)


@pytest.mark.parametrize("size", [(7, 12), (1, 9), (12, 4)])
def test_rows_are_high_enough_for_their_names(size: tuple[int, int], tmp_path: Path):
    name = "quad (QuadMamba)"
    image = cv2.imread(str(draw_scan_paths({name: QuadScan()}, tmp_path / "x.png", *size)))
    assert image.shape[0] >= 190
    assert image.shape[1] >= 4 * 170
    with pytest.raises(ValueError, match="at least 1 x 1, got 0 x 9"):
        draw_scan_paths({name: QuadScan()}, tmp_path / "x.png", 0, 9)


def test_panels_are_arranged_in_rows():
    panels = [np.full((2, 3, 3), value, dtype=np.uint8) for value in (10, 20, 30)]
    sheet = arrange_panels(panels, 2)[::2, ::3, 0]
    np.testing.assert_array_equal(sheet, [[10, 20], [30, 255]])
    assert arrange_panels(panels, 9).shape == (2, 9, 3)
    with pytest.raises(ValueError, match="columns must be at least 1, got 0"):
        arrange_panels(panels, 0)
