"""The generated shapes, laid out as ADE20K, at their native size."""

_base_ = "./ade20k-512x512.py"

data_root = "data/shapes_ade/"
data_hint = "generate it: python tools/dataset_tools/generate_shapes.py --format ade20k"
# mmquad.datasets.SEGMENTATION_CLASSES and SEGMENTATION_PALETTE
metainfo = dict(
    classes=("background", "disc", "rectangle", "triangle", "star"),
    palette=[[238, 232, 213], [220, 50, 47], [38, 139, 210], [133, 153, 0], [211, 54, 190]],
)
crop_size = (96, 96)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="RandomCrop", crop_size=crop_size),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="PackSegInputs"),
]
_dataset = dict(
    # mmseg's ADE20KDataset knows its 150 classes only.
    type="BaseSegDataset",
    data_root=data_root,
    metainfo=metainfo,
    reduce_zero_label=True,
)
train_dataloader = dict(
    batch_size=4, num_workers=0, dataset=dict(pipeline=train_pipeline, **_dataset)
)
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline, **_dataset)
)
test_dataloader = val_dataloader
