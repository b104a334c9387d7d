"""UperNet, Swin-S, ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmseg/controls/upernet_swin-small_8xb2-160k_ade20k-512x512.py 8

Published: mIoU 47.6 single-scale, 49.5 multi-scale (VMamba, arXiv 2401.10166, Table 2; ImageNet
weights).
"""

_base_ = "./upernet_swin-tiny_8xb2-160k_ade20k-512x512.py"

model = dict(
    backbone=dict(
        depths=[2, 2, 18, 2],
        init_cfg=dict(
            checkpoint="https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/swin/swin_small_patch4_window7_224_20220317-7ba6d6dd.pth"
        ),
    ),
)
