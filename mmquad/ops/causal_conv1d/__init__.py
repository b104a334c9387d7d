"""Causal depthwise convolution along tokens: what Mamba blocks apply before their scan."""

from mmquad.ops.causal_conv1d.api import causal_conv1d
from mmquad.ops.causal_conv1d.library import BACKENDS

__all__ = ["BACKENDS", "causal_conv1d"]
