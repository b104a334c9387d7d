"""The detection demo from the weights of the classification demo instead of from scratch.

tools/demo/demo.sh classification
tools/dist_train.sh configs/mmdet/quadmamba/<this file> 2
"""

_base_ = "./mask-rcnn_quadmamba-demo_fpn_shapes.py"

_weights = "work_dirs/demo_classification/epoch_16.pth"
model = dict(
    backbone=dict(init_cfg=dict(type="Pretrained", checkpoint=_weights, prefix="backbone."))
)
