"""COCO instances with the multi-scale and crop training of DETR that Swin's 3x schedule uses."""

_base_ = "./coco_instance.py"

_short_sides = [(short, 1333) for short in range(480, 801, 32)]
_multi_scale = dict(type="RandomChoiceResize", scales=_short_sides, keep_ratio=True)
train_pipeline = [
    dict(type="LoadImageFromFile", backend_args=None),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="RandomChoice",
        transforms=[
            [_multi_scale],
            [
                dict(
                    type="RandomChoiceResize",
                    scales=[(400, 1333), (500, 1333), (600, 1333)],
                    keep_ratio=True,
                ),
                dict(
                    type="RandomCrop",
                    crop_type="absolute_range",
                    crop_size=(384, 600),
                    allow_negative_crop=True,
                ),
                _multi_scale,
            ],
        ],
    ),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
