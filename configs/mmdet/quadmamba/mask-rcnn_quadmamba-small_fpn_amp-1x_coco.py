"""As the 1x config of QuadMamba-S, in mixed precision (float16; needs GPUs).

tools/dist_train.sh configs/mmdet/quadmamba/mask-rcnn_quadmamba-small_fpn_amp-1x_coco.py 8

Published: box AP 46.7, mask AP 42.4 (QuadMamba, NeurIPS 2024, arXiv 2410.06806; ImageNet weights).
"""

_base_ = "./mask-rcnn_quadmamba-small_fpn_1x_coco.py"

optim_wrapper = dict(type="AmpOptimWrapper", loss_scale="dynamic")
