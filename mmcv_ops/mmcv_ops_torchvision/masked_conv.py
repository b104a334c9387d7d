"""The two halves of a convolution at some positions only (mmcv's `masked_conv2d`)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .kernels import operator

__all__ = ["masked_col2im_forward", "masked_im2col_forward"]


@operator
def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """The patches below the kernel, one column per position, written to `col` [C kh kw, N].

    Args:
        im: [1, C, H, W].
        mask_h_idx: Row of each position in the output of the convolution. [N]
        mask_w_idx: Its column. [N]
        col: Written.
        kernel_h: kh.
        kernel_w: kw.
        pad_h: Rows of zeros above and below.
        pad_w: Columns of zeros left and right.
    """
    padded = F.pad(im[0], (pad_w, pad_w, pad_h, pad_h))
    patches = padded.unfold(1, kernel_h, 1).unfold(2, kernel_w, 1)  # [C, oh, ow, kh, kw]
    chosen = patches[:, mask_h_idx, mask_w_idx]  # [C, N, kh, kw]
    col.copy_(chosen.permute(0, 2, 3, 1).flatten(0, 2))


@operator
def masked_col2im_forward(
    col: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    im: Tensor,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Puts `col` [C, N] at its positions of `im` [1, C, height, width], which is written."""
    im[0, :, mask_h_idx, mask_w_idx] = col
