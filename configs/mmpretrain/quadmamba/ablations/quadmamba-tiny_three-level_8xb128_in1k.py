r"""QuadMamba-T with three-level quadtrees: in the chosen window one part is read in parts again.

tools/dist_train.sh \
    configs/mmpretrain/quadmamba/ablations/quadmamba-tiny_three-level_8xb128_in1k.py 8

Published: nothing; the paper names it as future work. The fused op does not apply: slower,
and more memory.
"""

_base_ = "../quadmamba-tiny_8xb128_in1k.py"

model = dict(backbone=dict(quadtree=dict(levels=3)))
