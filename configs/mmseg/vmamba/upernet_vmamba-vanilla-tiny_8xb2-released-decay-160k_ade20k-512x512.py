r"""UperNet, VMamba Vanilla-T, ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images.

tools/dist_train.sh \
  configs/mmseg/vmamba/upernet_vmamba-vanilla-tiny_8xb2-released-decay-160k_ade20k-512x512.py 8

Published: mIoU 47.3 single-scale, 48.3 multi-scale (VMamba, arXiv 2401.10166; ImageNet weights).
With the weight decay of the release.
"""

_base_ = [
    "../_base_/models/upernet_vmamba.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_160k_released-decay.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(arch="vanilla-tiny", drop_path_rate=0.3),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
