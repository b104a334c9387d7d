"""Registries of this package, children of mmengine's with the scope ``mmquad``.

``type='mmquad.X'`` in any OpenMMLab config imports this module and then the ``locations`` below,
so no ``custom_imports`` is needed.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import Registry

__all__ = [
    "DATASETS",
    "FUNCTIONS",
    "HOOKS",
    "MODELS",
    "OPTIM_WRAPPERS",
    "OPTIM_WRAPPER_CONSTRUCTORS",
    "RELEASED_WEIGHTS",
]

MODELS = Registry(
    "model",
    parent=MMENGINE_MODELS,
    scope="mmquad",
    locations=["mmquad.backbones", "mmquad.necks"],
)
HOOKS = Registry("hook", parent=MMENGINE_HOOKS, scope="mmquad", locations=["mmquad.hooks"])
DATASETS = Registry(
    "dataset", parent=MMENGINE_DATASETS, scope="mmquad", locations=["mmquad.datasets"]
)
FUNCTIONS = Registry(
    "function", parent=MMENGINE_FUNCTIONS, scope="mmquad", locations=["mmquad.hooks"]
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    "optim_wrapper_constructor",
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope="mmquad",
    locations=["mmquad.optim"],
)
OPTIM_WRAPPERS = Registry(
    "optim_wrapper",
    parent=MMENGINE_OPTIM_WRAPPERS,
    scope="mmquad",
    locations=["mmquad.optim"],
)
# How backbones reach what is built on them.
RELEASED_WEIGHTS = Registry(
    "released weights", scope="mmquad", locations=["mmquad.releases.registered"]
)
