r"""QuadMamba-T whose score predictor does not see the averages of the windows (eq. 5-6).

tools/dist_train.sh \
    configs/mmpretrain/quadmamba/ablations/quadmamba-tiny_no-context_8xb128_in1k.py 8

Published: no figure; the authors' code has no context (docs/fidelity.md, Q2).
"""

_base_ = "../quadmamba-tiny_8xb128_in1k.py"

model = dict(backbone=dict(quadtree=dict(use_context=False)))
