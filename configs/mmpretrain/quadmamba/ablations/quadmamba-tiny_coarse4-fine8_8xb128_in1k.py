r"""QuadMamba-T, windows of resolutions (1/4, 1/8): one of sixteen is read finely.

tools/dist_train.sh \
    configs/mmpretrain/quadmamba/ablations/quadmamba-tiny_coarse4-fine8_8xb128_in1k.py 8

Published: top-1 accuracy 73.6 (QuadMamba, NeurIPS 2024, arXiv 2410.06806, Table 5).
"""

_base_ = "../quadmamba-tiny_8xb128_in1k.py"

model = dict(backbone=dict(quadtree=dict(coarse_level=2)))
