"""QuadMamba-T, layer pattern 1: quadtrees in the first three stages, none shifted.

tools/dist_train.sh configs/mmpretrain/quadmamba/ablations/quadmamba-tiny_lp1_8xb128_in1k.py 8

Published: top-1 accuracy 73.5 (QuadMamba, NeurIPS 2024, arXiv 2410.06806, fig. 5).
The pattern is our reading of the figure (docs/ablations.md).
"""

_base_ = "../quadmamba-tiny_8xb128_in1k.py"

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, dim=64, depths=(2, 6, 2, 2), ssm_ratio=1, quad_stages=(0, 1, 2)),
        quadtree=dict(shifts=((0, 0),)),
    ),
)
