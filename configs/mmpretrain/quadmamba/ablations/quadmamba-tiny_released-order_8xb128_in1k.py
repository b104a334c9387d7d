r"""QuadMamba-T with the fine order of the authors' code: no permutation (docs/fidelity.md, Q1).

tools/dist_train.sh \
    configs/mmpretrain/quadmamba/ablations/quadmamba-tiny_released-order_8xb128_in1k.py 8

Published: no figure. The fused op does not apply: slower, and more memory.
"""

_base_ = "../quadmamba-tiny_8xb128_in1k.py"

model = dict(backbone=dict(quadtree=dict(nested=False)))
