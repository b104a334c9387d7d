"""The segmentation demo from the weights of the classification demo instead of from scratch.

tools/demo/demo.sh classification
tools/dist_train.sh configs/mmseg/quadmamba/<this file> 2
"""

_base_ = "./upernet_quadmamba-demo_shapes.py"

_weights = "work_dirs/demo_classification/epoch_16.pth"
model = dict(
    backbone=dict(
        init_cfg=dict(_delete_=True, type="Pretrained", checkpoint=_weights, prefix="backbone.")
    )
)
