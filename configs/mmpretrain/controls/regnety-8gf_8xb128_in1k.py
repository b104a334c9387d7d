"""RegNetY-8G, ImageNet-1k, 224 x 224, 300 epochs, 8 GPUs x 128 images: a control.

tools/dist_train.sh configs/mmpretrain/controls/regnety-8gf_8xb128_in1k.py 8

Needs timm. Our recipe; RegNet's own has 100 epochs and less augmentation.
Published: top-1 79.9 (QuadMamba, arXiv 2410.06806, Table 1).
"""

_base_ = [
    "../_base_/models/timm.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs1024_adamw.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(model_name="regnety_080", drop_path_rate=0.2),
    head=dict(in_channels=2016),
)
