"""``tools/test.py --tta`` on segmentation: several scales, each with its mirror image, one mIoU."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.models import SegTTAModel
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch.testing import assert_close

from mmquad.datasets import generate_shapes_ade
from mmquad.engine.launch import plan_test, run_test

CONFIGS = Path(__file__).parents[2] / "configs/mmseg/quadmamba"
DEMO = CONFIGS / "upernet_quadmamba-demo_shapes.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return str(generate_shapes_ade(tmp_path_factory.mktemp("data") / "shapes", 1, 2))


@pytest.fixture
def checkpoint(data: str, tmp_path: Path, monkeypatch) -> str:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    path = tmp_path / "weights.pth"
    torch.save({}, path)
    model = plan_test(str(DEMO), str(path), data_root=data).cfg.model
    torch.manual_seed(0)
    init_default_scope("mmseg")
    torch.save({"state_dict": MODELS.build(model).state_dict()}, path)
    return str(path)


def predict(model: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Logits ``[classes, H, W]`` of an image ``[3, H, W]``, without any augmentation."""
    shape = tuple(image.shape[1:])
    meta = {"img_shape": shape, "ori_shape": shape, "pad_shape": shape}
    (found,) = model.test_step({"inputs": [image], "data_samples": [SegDataSample(metainfo=meta)]})
    return found.seg_logits.data


def test_all_views_are_merged_into_one_miou(
    data: str, checkpoint: str, tmp_path: Path, monkeypatch
):
    images = []
    merge = SegTTAModel.merge_preds

    def record(self, samples: list) -> list:
        images.append((self.module, samples[0]))
        return merge(self, samples)

    monkeypatch.setattr(SegTTAModel, "merge_preds", record)
    work_dir = str(tmp_path / "run")
    plan = plan_test(str(DEMO), checkpoint, data_root=data, work_dir=work_dir, tta=True)
    metrics = run_test(plan)
    assert 0 < metrics["mIoU"] <= metrics["aAcc"] <= 100

    assert len(images) == 2
    for model, views in images:
        height, width = views[0].ori_shape
        scales = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
        assert [bool(view.flip) for view in views] == [False, True] * len(scales)
        for view, scale in zip(views, np.repeat(scales, 2), strict=True):
            assert view.img_shape == pytest.approx((height * scale, width * scale), abs=1)
            # Every view votes at the size of the image.
            assert view.seg_logits.data.shape == (5, height, width)

        image = torch.from_numpy(cv2.imread(views[0].img_path)).permute(2, 0, 1)
        plain, mirrored = views[4:6]
        assert_close(plain.seg_logits.data, predict(model, image))
        back = predict(model, image.flip(-1)).flip(-1)
        assert_close(mirrored.seg_logits.data, back)
        assert not torch.allclose(back, plain.seg_logits.data)
