"""UperNet, Swin-B, ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmseg/controls/upernet_swin-base_8xb2-160k_ade20k-512x512.py 8

Published: mIoU 48.1 single-scale, 49.7 multi-scale (VMamba, arXiv 2401.10166, Table 2; ImageNet
weights).
"""

_base_ = "./upernet_swin-tiny_8xb2-160k_ade20k-512x512.py"

model = dict(
    backbone=dict(
        depths=[2, 2, 18, 2],
        embed_dims=128,
        num_heads=[4, 8, 16, 32],
        init_cfg=dict(
            checkpoint="https://mmassets.onedl.ai/mmsegmentation/v0.5/pretrain/swin/swin_base_patch4_window7_224_20220317-e9b98025.pth"
        ),
    ),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
