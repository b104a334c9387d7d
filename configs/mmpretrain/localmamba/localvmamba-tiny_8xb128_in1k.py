"""LocalVMamba-T, ImageNet-1k, 224 x 224, 300 epochs, 8 GPUs x 128 images.

tools/dist_train.sh configs/mmpretrain/localmamba/localvmamba-tiny_8xb128_in1k.py 8

Published: top-1 accuracy 82.7 (LocalMamba, arXiv 2403.09338).
Drop path 0.1 is that of the release's recipe file; the commands for this model were not published.
"""

_base_ = [
    "../_base_/models/localvmamba.py",
    "../_base_/datasets/imagenet_bs128_224.py",
    "../_base_/schedules/imagenet_bs1024_adamw_localmamba.py",
    "../_base_/runtime.py",
]

model = dict(
    backbone=dict(arch="tiny", drop_path_rate=0.1),
)
