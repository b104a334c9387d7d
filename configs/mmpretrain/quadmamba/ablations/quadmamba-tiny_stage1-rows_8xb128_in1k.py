r"""QuadMamba-T, no windows in stage 1: rows, forwards and backwards.

tools/dist_train.sh \
    configs/mmpretrain/quadmamba/ablations/quadmamba-tiny_stage1-rows_8xb128_in1k.py 8

Published: top-1 accuracy 72.2 (QuadMamba, NeurIPS 2024, arXiv 2410.06806, Table 4).
"""

_base_ = "quadmamba-tiny_stage1-quadtree_8xb128_in1k.py"

model = dict(backbone=dict(type="mmquad.FixedWindowQuadMamba", window=0))
