"""QuadMamba-T, layer pattern 2: quadtrees in the first two stages, none shifted.

tools/dist_train.sh configs/mmpretrain/quadmamba/ablations/quadmamba-tiny_lp2_8xb128_in1k.py 8

Published: top-1 accuracy 73.7 (QuadMamba, NeurIPS 2024, arXiv 2410.06806, fig. 5).
The pattern is our reading of the figure (docs/ablations.md).
"""

_base_ = "../quadmamba-tiny_8xb128_in1k.py"

model = dict(backbone=dict(quadtree=dict(shifts=((0, 0),))))
