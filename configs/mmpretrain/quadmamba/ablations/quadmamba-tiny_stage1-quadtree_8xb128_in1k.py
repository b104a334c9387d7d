r"""QuadMamba-T with the quadtree in stage 1 only: what the configs of fixed windows compare with.

tools/dist_train.sh \
    configs/mmpretrain/quadmamba/ablations/quadmamba-tiny_stage1-quadtree_8xb128_in1k.py 8

Published: no figure; the rows of Table 4 are the windows of stage 1.
The other stages are cross scans here (docs/ablations.md).
"""

_base_ = "../quadmamba-tiny_8xb128_in1k.py"

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, dim=64, depths=(2, 6, 2, 2), ssm_ratio=1, quad_stages=(0,)),
    ),
)
