"""UperNet, PVT-S, ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmseg/controls/upernet_pvt-small_8xb2-160k_ade20k-512x512.py 8

The backbone is mmdet's.
Published: no figure.
"""

_base_ = "./upernet_pvt-tiny_8xb2-160k_ade20k-512x512.py"

model = dict(
    backbone=dict(
        num_layers=[3, 4, 6, 3],
        init_cfg=dict(
            checkpoint="https://github.com/whai362/PVT/releases/download/v2/pvt_small.pth"
        ),
    )
)
