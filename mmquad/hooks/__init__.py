"""Runner hooks of a training: what is checked, kept and drawn while it runs.

May import what lies below: ``backbones``, ``checkpoints``, ``checks``, ``search``,
``analysis``, ``errors``.
"""

from mmquad.hooks.atomic_checkpoint import AtomicCheckpointHook
from mmquad.hooks.class_check import ClassCheckHook
from mmquad.hooks.direction_log import DirectionLogHook
from mmquad.hooks.finite_guard import FiniteGuardHook
from mmquad.hooks.partition_visualization import PartitionVisualizationHook
from mmquad.hooks.seeding import EpochSeedHook, seed_worker
from mmquad.hooks.strict_weights import StrictWeightsHook

__all__ = [
    "AtomicCheckpointHook",
    "ClassCheckHook",
    "DirectionLogHook",
    "EpochSeedHook",
    "FiniteGuardHook",
    "PartitionVisualizationHook",
    "StrictWeightsHook",
    "seed_worker",
]
