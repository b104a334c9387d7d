"""QuadMamba-T, layer pattern 3: every second quadtree shifted, always in the same direction.

tools/dist_train.sh configs/mmpretrain/quadmamba/ablations/quadmamba-tiny_lp3_8xb128_in1k.py 8

Published: top-1 accuracy 73.8, and 74.0 with complementary directions, our default
(QuadMamba, NeurIPS 2024, arXiv 2410.06806, fig. 5). The pattern is our reading (docs/ablations.md).
"""

_base_ = "../quadmamba-tiny_8xb128_in1k.py"

model = dict(backbone=dict(quadtree=dict(shifts=((1, 1),))))
