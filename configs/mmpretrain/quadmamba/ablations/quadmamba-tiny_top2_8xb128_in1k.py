"""QuadMamba-T that reads two of the four windows finely.

tools/dist_train.sh configs/mmpretrain/quadmamba/ablations/quadmamba-tiny_top2_8xb128_in1k.py 8

Published: nothing; the paper names it as future work.
"""

_base_ = "../quadmamba-tiny_8xb128_in1k.py"

model = dict(backbone=dict(quadtree=dict(top_k=2)))
