"""The generated shapes, laid out as COCO, at their native size."""

_base_ = "./coco_instance.py"

data_root = "data/shapes_coco/"
data_hint = "generate it: python tools/dataset_tools/generate_shapes.py"
# mmquad.datasets.SHAPE_CLASSES
metainfo = dict(classes=("disc", "rectangle", "triangle", "star"))
_meta_keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    # The shapes are drawn at any angle, so every mirror image is as likely.
    dict(type="RandomFlip", prob=[0.25] * 3, direction=["horizontal", "vertical", "diagonal"]),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    # Keeps the size; mmdet wants a scale factor to map predictions back.
    dict(type="Resize", scale_factor=1.0, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="PackDetInputs", meta_keys=_meta_keys),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        filter_cfg=dict(filter_empty_gt=True, min_size=0),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "annotations/instances_val2017.json")
test_evaluator = val_evaluator
