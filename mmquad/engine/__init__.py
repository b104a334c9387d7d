"""Training engine: launching, checks made before a run, hooks."""

from mmquad.engine.seeding import EpochSeedHook, seed_worker

__all__ = ["EpochSeedHook", "seed_worker"]
