"""UperNet, ResNet-50, ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmseg/controls/upernet_resnet50_8xb2-160k_ade20k-512x512.py 8

Published: mIoU 42.1 single-scale, 42.8 multi-scale (VMamba, arXiv 2401.10166, Table 2; ImageNet
weights).
"""

_base_ = [
    "mmseg::_base_/models/upernet_r50.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    pretrained="open-mmlab://resnet50_v1c",
    backbone=dict(depth=50),
    decode_head=dict(in_channels=[256, 512, 1024, 2048], num_classes=150),
    auxiliary_head=dict(in_channels=1024, num_classes=150),
)
