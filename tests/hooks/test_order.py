"""The order in which hooks act, whatever the order in which a config names them."""

import itertools
from pathlib import Path

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from mmquad.checkpoints import CheckpointMismatchError

STRICT, AVERAGE = {"type": "mmquad.StrictWeightsHook"}, {"type": "EMAHook", "momentum": 0.5}
EARLY_AVERAGE = AVERAGE | {"priority": "ABOVE_NORMAL"}  # as the ImageNet configs have it
OURS = [
    {"type": "mmquad.EpochSeedHook"},
    {"type": "mmquad.FiniteGuardHook"},
    {"type": "mmquad.ClassCheckHook"},
]


class Model(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, inputs: Tensor, mode: str = "tensor") -> dict[str, Tensor]:
        return {"loss": self.linear(inputs).mean()}


def make_runner(work_dir: Path, hooks: list[dict], load_from: Path | None = None) -> Runner:
    return Runner(
        model=Model(),
        work_dir=str(work_dir),
        train_dataloader={
            "batch_size": 2,
            "num_workers": 0,
            "dataset": [{"inputs": torch.ones(2)}] * 4,
            "sampler": {"type": "DefaultSampler", "shuffle": False},
            "collate_fn": {"type": "default_collate"},
        },
        train_cfg={"by_epoch": True, "max_epochs": 1},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.0}},
        default_hooks={"checkpoint": {"type": "mmquad.AtomicCheckpointHook"}},
        custom_hooks=hooks,
        load_from=None if load_from is None else str(load_from),
        experiment_name=f"{work_dir.name}_{len(hooks)}",
        default_scope="mmengine",
        log_level="ERROR",
    )


@pytest.mark.parametrize("average", [AVERAGE, EARLY_AVERAGE], ids=["stock", "early"])
@pytest.mark.parametrize("turned", [False, True])
def test_order_of_the_hooks(tmp_path: Path, average: dict, turned: bool) -> None:
    named = [STRICT, average, *OURS]
    runner = make_runner(tmp_path, named[::-1] if turned else named)
    order = [type(hook).__name__ for hook in runner.hooks]

    def before(*names: str) -> bool:
        places = [order.index(name) for name in names]
        return all(first < second for first, second in itertools.pairwise(places))

    # Weights are compared, and repaired, before averages are taken from them and loaded.
    assert before("StrictWeightsHook", "EMAHook", "AtomicCheckpointHook")
    # A loss is looked at before anything is made of it.
    assert before("FiniteGuardHook", "EMAHook", "LoggerHook")
    assert before("FiniteGuardHook", "AtomicCheckpointHook")
    # Nothing draws between the seeding of an epoch and the start of its data loader.
    assert order[-1] == "EpochSeedHook"


@pytest.mark.parametrize("average", [AVERAGE, EARLY_AVERAGE], ids=["stock", "early"])
@pytest.mark.parametrize("turned", [False, True])
def test_averages_begin_with_the_weights_that_were_compared(
    tmp_path: Path, average: dict, turned: bool
) -> None:
    """mmengine's EMAHook knows ``state_dict`` only; a file may have its weights elsewhere."""
    hooks = [average, STRICT] if turned else [STRICT, average]
    weights = Model().state_dict()
    path = tmp_path / "weights.pth"
    torch.save({"model": {f"module.{name}": value for name, value in weights.items()}}, path)
    runner = make_runner(tmp_path / "work", hooks, path)
    runner.train()
    (ema,) = (hook for hook in runner.hooks if isinstance(hook, EMAHook))
    for model in (runner.model, ema.ema_model.module):
        assert model.linear.weight.equal(weights["linear.weight"])
    torch.save({"state_dict": {"linear.weight": torch.zeros(1, 2)}}, path)
    runner = make_runner(tmp_path / "again", hooks, path)
    with pytest.raises(CheckpointMismatchError, match=r"missing .*\n +linear\.bias"):
        runner.train()
