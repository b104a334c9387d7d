r"""As the 512 x 512 config of QuadMamba-S, in mixed precision (float16; needs GPUs).

tools/dist_train.sh \
  configs/mmseg/quadmamba/upernet_quadmamba-small_8xb2-amp-160k_ade20k-512x512.py 8

Published: mIoU 47.2 single-scale, 48.1 multi-scale (QuadMamba, NeurIPS 2024, arXiv 2410.06806;
ImageNet weights).
"""

_base_ = "./upernet_quadmamba-small_8xb2-160k_ade20k-512x512.py"

optim_wrapper = dict(type="AmpOptimWrapper", loss_scale="dynamic")
