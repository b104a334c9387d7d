r"""QuadMamba of width 96 with 2, 8, 2, 2 blocks per stage.

tools/dist_train.sh \
    configs/mmpretrain/quadmamba/ablations/quadmamba-small_depths-2-8-2-2_8xb128_in1k.py 8

Published: top-1 accuracy 81.5 (QuadMamba, NeurIPS 2024, arXiv 2410.06806, Table 6).
The ratio of inner channels is that of S, our choice.
"""

_base_ = "../quadmamba-small_8xb128_in1k.py"

model = dict(backbone=dict(arch=dict(_delete_=True, dim=96, depths=(2, 8, 2, 2), ssm_ratio=2)))
