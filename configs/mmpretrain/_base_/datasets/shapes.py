"""The generated single shapes, laid out as ImageNet, at 64 x 64."""

_base_ = "./imagenet_bs128_224.py"

data_root = "data/shapes_imagenet"
data_hint = "generate it: python tools/dataset_tools/generate_shapes.py --format imagenet"
data_preprocessor = dict(num_classes=4)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(64, 64)),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="RandomFlip", prob=0.5, direction="vertical"),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(64, 64)),
    dict(type="PackInputs"),
]
# mmquad.datasets.CLASSIFICATION_CLASSES, which are the names of the folders
_classes = ("disc", "rectangle", "star", "triangle")
_dataset = dict(data_root=data_root, metainfo=dict(classes=_classes))
train_dataloader = dict(
    batch_size=16, num_workers=0, dataset=dict(pipeline=train_pipeline, **_dataset)
)
val_dataloader = dict(
    batch_size=50,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(pipeline=test_pipeline, **_dataset),
)
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator
