"""A whole detector: a training step and a prediction, with both kinds of operators."""

import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.hub import get_config
from mmengine.registry import init_default_scope


def step_and_prediction() -> dict[str, torch.Tensor]:
    """Losses, gradients and detections of Mask R-CNN on a narrow ResNet-18."""
    init_default_scope("mmdet")
    config = get_config("mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py").model
    config.backbone.update(depth=18, base_channels=8, init_cfg=None)
    config.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    config.rpn_head.update(in_channels=16, feat_channels=16)
    for head in (config.roi_head.bbox_roi_extractor, config.roi_head.mask_roi_extractor):
        head.out_channels = 16
    config.roi_head.bbox_head.update(in_channels=16, fc_out_channels=32)
    config.roi_head.mask_head.update(in_channels=16, conv_out_channels=16, num_convs=1)
    config.test_cfg.rcnn.score_thr = 0.0
    torch.manual_seed(0)
    model = MODELS.build(config)
    data = demo_mm_inputs(2, [(3, 64, 64)] * 2, num_classes=80, with_mask=True)
    losses = model(**model.data_preprocessor(data, training=True), mode="loss")
    total, found = model.parse_losses(losses)
    total.backward()
    found = dict(found)
    found.update((name, p.grad) for name, p in model.named_parameters() if p.grad is not None)
    data = demo_mm_inputs(2, [(3, 64, 64)] * 2, num_classes=80)
    with torch.no_grad():
        results = model.eval()(**model.data_preprocessor(data), mode="predict")
    for number, result in enumerate(results):
        detections = result.pred_instances
        assert len(detections)
        found[f"boxes {number}"] = detections.bboxes
        found[f"scores {number}"] = detections.scores
        found[f"masks {number}"] = detections.masks
    return {name: value.detach() for name, value in found.items()}


def test_mask_rcnn_learns_and_finds_the_same(both):
    result = both(step_and_prediction)
    assert result.served.keys() == result.compiled.keys()
    for name, value in result.compiled.items():
        torch.testing.assert_close(result.served[name], value, rtol=1e-5, atol=1e-5, msg=name)
