r"""QuadMamba-T, fixed windows of 2 x 2 tokens in stage 1.

tools/dist_train.sh \
    configs/mmpretrain/quadmamba/ablations/quadmamba-tiny_stage1-window2_8xb128_in1k.py 8

Published: top-1 accuracy 72.4 (QuadMamba, NeurIPS 2024, arXiv 2410.06806, Table 4).
"""

_base_ = "quadmamba-tiny_stage1-quadtree_8xb128_in1k.py"

model = dict(backbone=dict(type="mmquad.FixedWindowQuadMamba", window=2))
