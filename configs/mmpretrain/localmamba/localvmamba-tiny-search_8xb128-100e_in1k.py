"""Search for the directions of LocalVMamba-T: ImageNet-1k, 100 epochs, 8 GPUs x 128 images.

tools/dist_train.sh configs/mmpretrain/localmamba/localvmamba-tiny-search_8xb128-100e_in1k.py 8

Then tools/misc/export_directions.py. Published: none but the directions found.
"""

_base_ = [
    "../_base_/models/localvmamba.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs1024_search.py",
    "../_base_/runtime_search.py",
]

model = dict(
    backbone=dict(arch="tiny-search", drop_path_rate=0.1),
    head=dict(in_channels=256),
)
