"""As the 1x config of QuadMamba-B, in mixed precision (float16; needs GPUs).

tools/dist_train.sh configs/mmdet/quadmamba/mask-rcnn_quadmamba-base_fpn_amp-1x_coco.py 8

Published: none for this backbone (QuadMamba, NeurIPS 2024, has Li, T and S only).
"""

_base_ = "./mask-rcnn_quadmamba-base_fpn_1x_coco.py"

optim_wrapper = dict(type="AmpOptimWrapper", loss_scale="dynamic")
