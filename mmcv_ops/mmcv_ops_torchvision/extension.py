"""What `mmcv._ext` holds: the operators served here, and refusals for all others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from . import __version__
from .boxes import bbox_overlaps, nms, nms_match, softnms
from .deform_attention import ms_deform_attn_backward, ms_deform_attn_forward
from .deform_conv import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
)
from .focal_loss import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from .install import compiling_command
from .kernels import TORCHVISION, torchvision_version
from .masked_conv import masked_col2im_forward, masked_im2col_forward
from .regions import roi_align_backward, roi_align_forward, roi_pool_backward, roi_pool_forward

__all__ = [
    "PROVIDER",
    "bbox_overlaps",
    "deform_conv_backward_input",
    "deform_conv_backward_parameters",
    "deform_conv_forward",
    "get_compiler_version",
    "get_compiling_cuda_version",
    "masked_col2im_forward",
    "masked_im2col_forward",
    "modulated_deform_conv_backward",
    "modulated_deform_conv_forward",
    "ms_deform_attn_backward",
    "ms_deform_attn_forward",
    "nms",
    "nms_match",
    "roi_align_backward",
    "roi_align_forward",
    "roi_pool_backward",
    "roi_pool_forward",
    "sigmoid_focal_loss_backward",
    "sigmoid_focal_loss_forward",
    "softmax_focal_loss_backward",
    "softmax_focal_loss_forward",
    "softnms",
]

# Tells this module from mmcv's compiled one, which has no such name.
PROVIDER = f"torchvision {torchvision_version()}"


def get_compiler_version() -> str:
    """What mmcv's environment report says about the compiler."""
    return f"none ({PROVIDER} by mmcv-ops-torchvision {__version__})"


def get_compiling_cuda_version() -> str:
    """The CUDA version that torchvision's kernels were compiled for, or `not available`."""
    version = TORCHVISION._cuda_version()  # 13000 for 13.0, -1 for none
    return f"{version // 1000}.{version % 1000 // 10}" if version > 0 else "not available"


def __getattr__(name: str) -> Callable[..., NoReturn]:
    """A refusal for any operator that is not served.

    mmcv asks for the names of all its operators as soon as `mmcv.ops` is imported, and newer
    versions may ask for more, so a name is refused when it is called.
    """
    if name.startswith("_") or not name.islower():
        raise AttributeError(f"module 'mmcv._ext' has no attribute {name!r}")

    def refuse(*arguments: Any, **named: Any) -> NoReturn:
        raise NotImplementedError(
            f"mmcv's operator `{name}` is not served by mmcv-ops-torchvision {__version__}; it "
            f"needs a compiled mmcv: {compiling_command()}"
        )

    refuse.__name__ = refuse.__qualname__ = name
    return refuse
