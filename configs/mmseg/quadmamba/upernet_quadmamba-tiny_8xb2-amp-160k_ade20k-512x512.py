r"""As the 512 x 512 config of QuadMamba-T, in mixed precision (float16; needs GPUs).

tools/dist_train.sh \
  configs/mmseg/quadmamba/upernet_quadmamba-tiny_8xb2-amp-160k_ade20k-512x512.py 8

Published: mIoU 44.3 single-scale, 45.1 multi-scale (QuadMamba, NeurIPS 2024, arXiv 2410.06806;
ImageNet weights).
"""

_base_ = "./upernet_quadmamba-tiny_8xb2-160k_ade20k-512x512.py"

optim_wrapper = dict(type="AmpOptimWrapper", loss_scale="dynamic")
