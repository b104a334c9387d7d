r"""QuadMamba-T that reads four of sixteen windows finely: as much as by default, anywhere.

tools/dist_train.sh \
    configs/mmpretrain/quadmamba/ablations/quadmamba-tiny_coarse4-fine8-top4_8xb128_in1k.py 8

Published: nothing; the paper names it as future work.
"""

_base_ = "../quadmamba-tiny_8xb128_in1k.py"

model = dict(backbone=dict(quadtree=dict(coarse_level=2, top_k=4)))
