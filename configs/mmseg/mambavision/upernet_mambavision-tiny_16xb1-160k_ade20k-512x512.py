r"""UperNet, MambaVision-T, ADE20K, 512 x 512 crops, 160k iterations, 16 GPUs x 1 image.

tools/dist_train.sh \
    configs/mmseg/mambavision/upernet_mambavision-tiny_16xb1-160k_ade20k-512x512.py 16

Published: mIoU 46.0 single-scale (MambaVision, CVPR 2025, arXiv 2407.08083; ImageNet weights).
"""

_base_ = [
    "../_base_/models/upernet_mambavision.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(arch="tiny", window=(64, 32)),
    decode_head=dict(in_channels=[80, 160, 320, 640]),
    auxiliary_head=dict(in_channels=320),
)
train_dataloader = dict(batch_size=1)
optim_wrapper = dict(optimizer=dict(lr=5e-5))
