"""Training engine: launching, checks made before a run, hooks."""

from mmquad.engine.bf16 import Bf16OptimWrapper
from mmquad.engine.checkpoint_hook import AtomicCheckpointHook
from mmquad.engine.class_check import ClassCheckHook
from mmquad.engine.direction_log import DirectionLogHook
from mmquad.engine.finite_guard import FiniteGuardHook
from mmquad.engine.layer_decay import LayerDecayConstructor
from mmquad.engine.partition_hook import PartitionVisualizationHook
from mmquad.engine.seeding import EpochSeedHook, seed_worker
from mmquad.engine.strict_weights import StrictWeightsHook

__all__ = [
    "AtomicCheckpointHook",
    "Bf16OptimWrapper",
    "ClassCheckHook",
    "DirectionLogHook",
    "EpochSeedHook",
    "FiniteGuardHook",
    "LayerDecayConstructor",
    "PartitionVisualizationHook",
    "StrictWeightsHook",
    "seed_worker",
]
