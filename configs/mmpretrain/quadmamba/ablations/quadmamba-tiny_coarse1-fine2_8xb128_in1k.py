r"""QuadMamba-T, windows of resolutions (1, 1/2): one coarse window, always read in four parts.

tools/dist_train.sh \
    configs/mmpretrain/quadmamba/ablations/quadmamba-tiny_coarse1-fine2_8xb128_in1k.py 8

Published: top-1 accuracy 73.5 (QuadMamba, NeurIPS 2024, arXiv 2410.06806, Table 5).
Nothing is left to choose, so the score predictor has no effect and no gradient but zero.
"""

_base_ = "../quadmamba-tiny_8xb128_in1k.py"

model = dict(backbone=dict(quadtree=dict(coarse_level=0)))
