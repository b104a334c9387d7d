"""Necks, registered in ``mmquad.registry.MODELS``."""

from mmquad.necks.simple_pyramid import SimpleFeaturePyramid

__all__ = ["SimpleFeaturePyramid"]
