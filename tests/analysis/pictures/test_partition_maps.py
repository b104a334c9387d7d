from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from mmquad.analysis.pictures.model_images import image_to_input, images_in, input_to_image
from mmquad.analysis.pictures.partition_maps import (
    Partition,
    draw_partition_sheet,
    image_partitions,
    record_partitions,
    regions,
)
from mmquad.backbones import QuadMamba
from mmquad.scans import QuadScan

CPU = torch.device("cpu")


@pytest.mark.parametrize("shift", [(0, 0), (1, 1), (1, -1)])
@pytest.mark.parametrize("size", [(8, 8), (9, 19), (16, 5)])
def test_regions_are_the_windows_of_the_scan(size: tuple[int, int], shift: tuple[int, int]):
    scan = QuadScan(shift)
    tables = scan.tables(*size, CPU)
    for window in range(4):
        region = regions(scan, *size, window).ravel()
        coarse = np.where(region >= 4, window, region)
        np.testing.assert_array_equal(coarse, tables.window.numpy())
        # the scan reads region after region: in its order each is one run
        order = np.where(
            tables.window[tables.order[0, 0]] == window, tables.order[1, 0], tables.order[0, 0]
        )
        runs = 1 + np.count_nonzero(np.diff(region[order]))
        assert runs == len(np.unique(region))


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("size", [(16, 16), (9, 19), (3, 40)])
def test_regions_of_any_choice_are_read_one_after_another(size, levels: int, level: int):
    scan = QuadScan((1, -1), coarse_level=level, levels=levels)
    windows = scan.windows
    weight = torch.zeros(windows * (1 if levels == 2 else 5))
    weight[: (windows + 1) // 2] = 1
    weight[windows + 3 :: 4] = 1  # the last part of every window
    region = regions(scan, *size, weight.nonzero()[:, 0].tolist()).ravel()
    tokens = torch.arange(1.0, size[0] * size[1] + 1).view(1, *size, 1)
    order = scan.to_sequences(tokens, weight[None])[0, :, 0, 0].long() - 1
    runs = 1 + np.count_nonzero(np.diff(region[order]))
    assert runs == len(np.unique(region))
    if size == (16, 16):  # every window holds tokens
        chosen = (windows + 1) // 2
        finest = chosen if levels == 3 else 0
        assert runs == (windows - chosen) + 4 * chosen + 3 * finest
        assert np.count_nonzero(region >= windows) == 256 * chosen // windows


def test_partitions_of_several_windows():
    backbone = small_backbone({"top_k": 2, "levels": 3})
    (partitions,) = image_partitions(backbone, torch.randn(1, 3, 128, 128))
    for partition in partitions:
        assert partition.chosen.mean() == 0.5
        finest = partition.region >= 4 + 16
        assert finest.mean() == 0.125
        assert len(np.unique(partition.region)) == 2 + 2 * 3 + 2 * 4


def small_backbone(quadtree: dict | str = "paper") -> QuadMamba:
    torch.manual_seed(0)
    arch = {"dim": 8, "depths": (2, 1), "ssm_ratio": 1.0}
    return QuadMamba(arch, out_indices=(0, 1), quadtree=quadtree).eval()


def test_partitions_are_those_the_forward_pass_chose():
    backbone = small_backbone()
    images = torch.randn(3, 3, 64, 96)
    chosen = {}

    def remember(name: str, weight: torch.Tensor) -> None:
        chosen[name] = weight.argmax(1).tolist()

    for name, module in backbone.named_modules():
        if name.endswith("selector"):
            module.register_forward_hook(lambda m, i, o, name=name: remember(name, o))
    found = image_partitions(backbone, images)
    assert [p.block for p in found[0]] == ["stages.0.0", "stages.0.1", "stages.1.0"]
    assert [p.scores.shape for p in found[0]] == [(16, 24), (16, 24), (8, 12)]
    for image, partitions in enumerate(found):
        for partition in partitions:
            window = chosen[f"{partition.block}.mixer.selector"][image]
            height, width = partition.scores.shape
            quadrant = np.zeros((height, width), dtype=bool)
            row, column = window // 2 * (height // 2), window % 2 * (width // 2)
            quadrant[row : row + height // 2, column : column + width // 2] = True
            if partition.block.endswith(".1"):  # shifted by half a fine window
                quadrant = np.roll(quadrant, (-(height // 8), -(width // 8)), (0, 1))
            np.testing.assert_array_equal(partition.chosen, quadrant)
            # chosen for its mean score: no other window has a better one
            mean = partition.scores[quadrant].mean()
            others = [
                partition.scores[partition.region == w].mean() for w in range(4) if w != window
            ]
            assert mean >= max(others) - 1e-6
    assert not any(len(m._forward_hooks) > 1 for m in backbone.modules())


def test_models_without_a_quadtree_are_refused():
    with (
        pytest.raises(ValueError, match=r"quadtree blocks \(mmquad.QuadMamba\), got Conv2d"),
        record_partitions(nn.Conv2d(1, 1, 1)),
    ):
        pass


def test_the_chosen_window_is_marked_and_scores_differ():
    image = np.full((64, 96, 3), 100, dtype=np.uint8)
    scores = np.linspace(0.2, 0.8, 16 * 24).reshape(16, 24)
    partition = Partition("stages.0.0", scores, regions(QuadScan(), 16, 24, window=3))
    sheet = draw_partition_sheet(image, [partition], panel_side=192)
    assert sheet.shape == (2 * (128 + 24), 2 * (192 + 6), 3)
    top = sheet[18 : 18 + 128, 198 : 198 + 192]
    inside, outside = top[80, 110], top[20, 20]
    assert inside[0] > inside[2]  # orange
    np.testing.assert_array_equal(outside, 75)
    bottom = sheet[152 + 18 : 152 + 18 + 128, 198 : 198 + 192].astype(int)
    assert bottom[-1, -1].sum() > bottom[0, 0].sum() + 100
    with pytest.raises(ValueError, match="at least one block"):
        draw_partition_sheet(image, [])


def test_many_blocks_go_in_rows():
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    partition = Partition("b", np.ones((2, 2)), regions(QuadScan(), 2, 2, 0))
    one_row = draw_partition_sheet(image, [partition] * 2, panel_side=40, columns=3)
    two_rows = draw_partition_sheet(image, [partition] * 3, panel_side=40, columns=3)
    assert two_rows.shape == (2 * one_row.shape[0], *one_row.shape[1:])


@pytest.mark.parametrize("to_rgb", [True, False])
def test_images_survive_the_preprocessor(to_rgb: bool):
    from mmengine.model import ImgDataPreprocessor

    preprocessor = ImgDataPreprocessor([1.0, 2, 3], [4.0, 5, 6], bgr_to_rgb=to_rgb)
    rgb = np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    inputs = image_to_input(rgb, preprocessor, 0)
    bgr = torch.from_numpy(rgb[..., ::-1].copy()).permute(2, 0, 1)
    expected = preprocessor({"inputs": [bgr]})["inputs"]
    torch.testing.assert_close(inputs, expected)
    np.testing.assert_array_equal(input_to_image(inputs[0], preprocessor), rgb)
    assert image_to_input(rgb, None, 24).shape == (1, 3, 20, 24)
    assert image_to_input(rgb[:, :1].repeat(9, axis=0), None, 24).shape == (1, 3, 24, 1)


def test_images_of_folders(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    for name in ("b.png", "deep/a.JPG", "notes.txt"):
        cv2.imwrite(str(tmp_path / "x.png"), np.zeros((2, 2, 3), np.uint8))
        (tmp_path / "x.png").rename(tmp_path / name)
    assert [p.name for p in images_in([tmp_path])] == ["b.png", "a.JPG"]
    with pytest.raises(FileNotFoundError, match="no such file"):
        images_in([tmp_path / "absent"])
