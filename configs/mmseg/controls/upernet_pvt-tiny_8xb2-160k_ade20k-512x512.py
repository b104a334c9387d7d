"""UperNet, PVT-T, ADE20K, 512 x 512 crops, 160k iterations, 8 GPUs x 2 images: a control.

tools/dist_train.sh configs/mmseg/controls/upernet_pvt-tiny_8xb2-160k_ade20k-512x512.py 8

The backbone is mmdet's.
Published: no figure.
"""

_base_ = [
    "mmseg::_base_/models/upernet_swin.py",
    "../_base_/datasets/ade20k-512x512.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        _delete_=True,
        type="mmdet.PyramidVisionTransformer",
        num_layers=[2, 2, 2, 2],
        init_cfg=dict(
            checkpoint="https://github.com/whai362/PVT/releases/download/v2/pvt_tiny.pth"
        ),
    ),
    decode_head=dict(in_channels=[64, 128, 320, 512], num_classes=150),
    auxiliary_head=dict(in_channels=320, num_classes=150),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"pos_embed": dict(decay_mult=0.0)}))
