"""Random numbers that do not depend on whether a run was interrupted.

mmengine checkpoints hold weights, optimiser and schedules but no generator states, so a resumed
run draws other drop paths, other sampled boxes and other augmentations than the run it continues.
"""

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmquad.registry import FUNCTIONS, HOOKS

__all__ = ["EpochSeedHook", "seed_all", "seed_worker"]


def seed_all(*entropy: int) -> None:
    """Seed python, numpy and torch (all devices) from a tuple of non-negative integers.

    Different tuples give unrelated streams, which ``seed + rank + epoch`` would not: there,
    rank 1 of epoch 0 is rank 0 of epoch 1.

    Example:
        >>> seed_all(0, 1, 2)
    """
    python_seed, numpy_seed, torch_seed = np.random.SeedSequence(entropy).generate_state(3)
    random.seed(int(python_seed))
    np.random.seed(numpy_seed)
    torch.manual_seed(int(torch_seed))


@FUNCTIONS.register_module()
def seed_worker(worker_id: int) -> None:
    """Seed numpy and python of a data-loading worker from the seed torch gave it.

    Use as ``worker_init_fn=dict(type='mmquad.seed_worker')`` with ``persistent_workers=False``.
    The main process draws the workers' base seed anew for every epoch. mmengine's default
    function instead starts each worker from the run's seed, hence with workers that do not
    persist every epoch repeats the augmentations of the first.

    Args:
        worker_id: Index of the worker; already part of torch's seed.
    """
    del worker_id
    seed = torch.initial_seed()
    random.seed(seed)
    np.random.seed(seed % 2**32)


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Re-seed python, numpy and torch at each epoch from (run seed, rank, epoch, iteration).

    **Epoch-based loops.** A run resumed from an end-of-epoch checkpoint draws exactly the numbers
    the uninterrupted run would have drawn: in the model, in the samplers of boxes, in
    augmentations of the main process, and in those of workers if the loader has
    ``persistent_workers=False`` and ``worker_init_fn=dict(type='mmquad.seed_worker')``. Where the
    run's seed was drawn at random, the order of the data is restored too (mmengine builds the
    sampler before it reads the checkpoint's seed).

    **Iteration-based loops.** They start one endless epoch, so the seeding happens once per
    launch. The order of the images is restored by mmengine's sampler. Other random numbers are
    not: a resumed run gets a stream of its own (reproducible from the seed and the iteration of
    the resumption), never a repetition of the first iterations' stream.
    """

    # Last of the hooks, so that nothing draws between the seeding and the data loader's start.
    priority = "LOWEST"

    def __init__(self) -> None:
        self._saved_sampler_seed: int | None = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the seed of the data order, which mmengine does not save, to the checkpoint."""
        checkpoint["meta"]["sampler_seed"] = getattr(_data_sampler(runner), "seed", None)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep that seed; whether the run resumes or only loads weights is not known yet."""
        self._saved_sampler_seed = checkpoint.get("meta", {}).get("sampler_seed")

    def before_train(self, runner: Runner) -> None:
        """On resumption restore the data order; warn of workers that cannot be re-seeded."""
        sampler = _data_sampler(runner)
        seed = self._saved_sampler_seed
        if runner.iter > 0 and seed is not None and getattr(sampler, "seed", seed) != seed:
            sampler.seed = seed
            runner.logger.info(f"The order of the data follows the resumed run: seed {seed}.")
        loader = runner.train_dataloader
        if loader.num_workers > 0 and loader.persistent_workers:
            runner.logger.warning(
                "EpochSeedHook cannot re-seed persistent workers, so augmentations after a "
                "resumption will differ; set train_dataloader.persistent_workers=False."
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed everything for the epoch that starts."""
        seed_all(runner.seed, get_rank(), runner.epoch, runner.iter)


def _data_sampler(runner: Runner) -> Any:
    loader = runner.train_dataloader
    # With a batch sampler torch leaves an unused sequential sampler in `loader.sampler`.
    return getattr(loader.batch_sampler, "sampler", loader.sampler)
