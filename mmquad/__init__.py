"""mmquad: vision state-space backbones for mmdetection, mmsegmentation and mmpretrain."""

__version__ = "0.1.0"
