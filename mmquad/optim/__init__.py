"""Optimizer wrappers and their constructors, for the ``optim_wrapper`` of a config.

May import ``backbones`` and what lies below them.
"""

from mmquad.optim.bf16 import Bf16OptimWrapper
from mmquad.optim.constructor import StateSpaceOptimWrapperConstructor

__all__ = ["Bf16OptimWrapper", "StateSpaceOptimWrapperConstructor"]
