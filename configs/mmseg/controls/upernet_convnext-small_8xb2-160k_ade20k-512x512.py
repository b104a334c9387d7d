"""UperNet, ConvNeXt-S, ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmseg/controls/upernet_convnext-small_8xb2-160k_ade20k-512x512.py 8

Published: mIoU 48.7 single-scale, 49.6 multi-scale (VMamba, arXiv 2401.10166, Table 2; ImageNet
weights).
"""

_base_ = "./upernet_convnext-tiny_8xb2-160k_ade20k-512x512.py"

model = dict(
    backbone=dict(
        arch="small",
        drop_path_rate=0.3,
        init_cfg=dict(
            checkpoint="https://mmassets.onedl.ai/mmclassification/v0/convnext/downstream/convnext-small_3rdparty_32xb128-noema_in1k_20220301-303e75e3.pth",
        ),
    )
)
