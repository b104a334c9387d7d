"""Resuming at an epoch boundary continues the random streams of the uninterrupted run."""

import itertools
import logging
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from mmquad.hooks import seeding
from mmquad.hooks.seeding import EpochSeedHook, seed_all, seed_worker
from mmquad.registry import FUNCTIONS, HOOKS

EPOCHS = 4
STOP_AFTER = 2


class NoisySamples(BaseDataset):
    """Twelve fixed vectors, each augmented with numpy noise when it is read."""

    def load_data_list(self) -> list[dict]:
        return [{"index": index} for index in range(12)]

    def prepare_data(self, idx: int) -> dict:
        base = np.full(4, idx, dtype=np.float32)
        return {"inputs": torch.from_numpy(base + np.random.randn(4).astype(np.float32))}


class NoisyModel(BaseModel):
    """Linear regression with dropout: random numbers in the forward pass as well."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, inputs: list[Tensor], mode: str = "tensor") -> dict[str, Tensor]:
        batch = torch.stack(list(inputs))
        return {"loss": (self.linear(self.dropout(batch)) - 1).pow(2).mean()}


class KilledError(Exception):
    """Stands for the signal that ends a run."""


class KillAfterEpoch(Hook):
    """Ends the run in the first iteration of the epoch after ``STOP_AFTER``."""

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        if runner.epoch == STOP_AFTER:
            raise KilledError


def make_runner(
    work_dir: Path,
    num_workers: int,
    *,
    seed: int | None = 3,
    hooks=(),
    resume: bool = False,
    persistent_workers: bool = False,
) -> Runner:
    loader = {
        "batch_size": 3,
        "num_workers": num_workers,
        "persistent_workers": persistent_workers,
        "sampler": {"type": "DefaultSampler", "shuffle": True},
        "worker_init_fn": {"type": "mmquad.seed_worker"},
        "dataset": NoisySamples(),
    }
    return Runner(
        model={"type": NoisyModel},
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg={"by_epoch": True, "max_epochs": EPOCHS},
        optim_wrapper={"optimizer": {"type": "AdamW", "lr": 0.05}},
        custom_hooks=[{"type": "mmquad.EpochSeedHook"}, *hooks],
        default_hooks={"checkpoint": {"type": "CheckpointHook", "interval": 1}},
        randomness={"seed": seed},
        resume=resume,
        experiment_name=f"{work_dir.name}_{resume}",
        default_scope="mmengine",
    )


def final_weights(runner: Runner) -> Tensor:
    runner.train()
    return torch.cat([p.detach().flatten().clone() for p in runner.model.parameters()])


def interrupted_weights(work_dir: Path, num_workers: int, seed: int | None = 3) -> Tensor:
    with pytest.raises(KilledError):
        make_runner(work_dir, num_workers, seed=seed, hooks=[KillAfterEpoch()]).train()
    torch.rand(17), np.random.rand(5)  # a new process starts from other generator states
    return final_weights(make_runner(work_dir, num_workers, seed=seed, resume=True))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_run_ends_bit_equal_to_the_uninterrupted_one(tmp_path: Path, num_workers: int):
    whole = final_weights(make_runner(tmp_path / "whole", num_workers))
    resumed = interrupted_weights(tmp_path / "parts", num_workers)
    assert torch.equal(resumed, whole)


def test_without_the_hook_the_resumed_run_differs(tmp_path: Path, monkeypatch):
    """The comparison above is sensitive to what the hook does."""
    monkeypatch.setattr(EpochSeedHook, "before_train_epoch", lambda self, runner: None)
    whole = final_weights(make_runner(tmp_path / "whole", 0))
    assert not torch.equal(interrupted_weights(tmp_path / "parts", 0), whole)


def test_data_order_survives_a_seed_drawn_at_random(tmp_path: Path):
    work_dir = tmp_path / "parts"
    first = make_runner(work_dir, 0, seed=None, hooks=[KillAfterEpoch()])
    with pytest.raises(KilledError):
        first.train()
    second = make_runner(work_dir, 0, seed=None, resume=True)
    second.train()
    assert second.seed == first.seed
    assert second.train_dataloader.sampler.seed == first.train_dataloader.sampler.seed


@pytest.mark.parametrize("persistent", [False, True])
def test_persistent_workers_are_reported(tmp_path: Path, caplog, persistent: bool):
    runner = make_runner(tmp_path, 1, persistent_workers=persistent)
    runner.logger.addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING):
        EpochSeedHook().before_train(runner)
    assert persistent == ("cannot re-seed persistent workers" in caplog.text)


def test_seed_all_gives_unrelated_streams_per_rank_and_epoch():
    def draw(*entropy: int) -> tuple[float, float]:
        seed_all(*entropy)
        return torch.rand(()).item(), np.random.rand()

    draws = {draw(seed, rank, epoch) for seed in (0, 1) for rank in (0, 1) for epoch in (0, 1)}
    assert len(draws) == 8
    assert draw(0, 1, 0) == draw(0, 1, 0)


def test_every_rank_epoch_and_iteration_has_a_stream_of_its_own(monkeypatch):
    """What the hook draws from: a rank that shared one would repeat the drop paths of another."""

    def draw(rank: int, epoch: int, iteration: int, seed: int = 3) -> tuple[float, float, float]:
        monkeypatch.setattr(seeding, "get_rank", lambda: rank)
        runner = SimpleNamespace(seed=seed, epoch=epoch, iter=iteration)
        EpochSeedHook().before_train_epoch(runner)
        return torch.rand(()).item(), np.random.rand(), random.random()

    places = list(itertools.product((0, 1, 7), (0, 1), (0, 1)))
    draws = [*(draw(*place) for place in places), draw(0, 0, 0, seed=4)]
    for stream in zip(*draws, strict=True):  # of torch, numpy and python
        assert len(set(stream)) == len(places) + 1
    assert [draw(*place) for place in places] == draws[:-1]


def test_seed_worker_follows_the_seed_torch_gave_the_worker():
    def draw(torch_seed: int) -> float:
        torch.manual_seed(torch_seed)
        seed_worker(0)
        return np.random.rand()

    assert draw(2**40 + 5) == draw(2**40 + 5)
    assert draw(2**40 + 5) != draw(2**40 + 6)


def test_registered_where_configs_look():
    assert HOOKS.get("mmquad.EpochSeedHook") is EpochSeedHook
    assert FUNCTIONS.get("mmquad.seed_worker") is seed_worker
