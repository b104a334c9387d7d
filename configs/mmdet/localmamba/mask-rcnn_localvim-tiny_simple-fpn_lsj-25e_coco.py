r"""Mask R-CNN as in ViTDet, LocalVim-T, COCO, 25 epochs of large-scale jitter, 8 GPUs x 2 images.

tools/dist_train.sh \
  configs/mmdet/localmamba/mask-rcnn_localvim-tiny_simple-fpn_lsj-25e_coco.py 8

Published: box AP 45.3, mask AP 39.9 (LocalMamba, arXiv 2403.09338; ImageNet weights), with
LayerNorm in the heads, 0.7 per layer of which the blocks got nothing, and features of the mixers.
"""

_base_ = [
    "../_base_/models/mask-rcnn_localvim_simple-fpn.py",
    "../_base_/datasets/coco_instance_lsj.py",
    "../_base_/schedules/adamw_25e_layer-decay.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(arch="tiny"))
