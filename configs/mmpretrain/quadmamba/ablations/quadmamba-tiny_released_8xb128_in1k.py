"""QuadMamba-T with all that the authors' code does otherwise (docs/fidelity.md).

tools/dist_train.sh configs/mmpretrain/quadmamba/ablations/quadmamba-tiny_released_8xb128_in1k.py 8

Published: no figure. The fused op does not apply: slower, and more memory.
"""

_base_ = "../quadmamba-tiny_8xb128_in1k.py"

model = dict(backbone=dict(quadtree="released"))
