"""A loss or gradient that is not finite stops the run, names the layer and keeps the weights."""

from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from mmquad.hooks import finite_guard
from mmquad.hooks.finite_guard import NonFiniteError

BAD_ITERATION = 2  # of 0..3


class Root(nn.Module):
    """Its gradient at 0 is infinite."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sqrt()


class Reciprocal(nn.Module):
    """Infinite at 0."""

    def forward(self, x: Tensor) -> Tensor:
        return 1 / x


class Chain(BaseModel):
    """A sampled input (dropout) so that the replay needs the same random numbers."""

    def __init__(self, breaking: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.5)
        self.breaking = breaking
        self.last = nn.Linear(3, 1)

    def forward(self, inputs: Tensor, mode: str = "tensor") -> dict[str, Tensor]:
        x = self.dropout(self.relu(self.first(inputs))) + 1
        # a zero after the layers, in one iteration only
        x = torch.where(inputs > 50, (x - x), x)
        return {"loss_part": self.last(self.breaking(x)).mean(), "acc": torch.tensor(torch.nan)}


def run(
    tmp_path: Path,
    model: Chain,
    *,
    poison: float = 100.0,
    optim_wrapper: dict | None = None,
    **options,
) -> Runner:
    data = [{"inputs": torch.full((3,), poison if i == BAD_ITERATION else 1.0)} for i in range(4)]
    runner = Runner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader={
            "batch_size": 1,
            "num_workers": 0,
            "dataset": data,
            "sampler": {"type": "DefaultSampler", "shuffle": False},
            "collate_fn": {"type": "default_collate"},
        },
        train_cfg={"by_epoch": True, "max_epochs": 1},
        optim_wrapper={"optimizer": {"type": "AdamW", "lr": 0.01}} | (optim_wrapper or {}),
        custom_hooks=[{"type": "mmquad.FiniteGuardHook"}],
        experiment_name=f"{tmp_path.name}_{type(model.breaking).__name__}",
        default_scope="mmengine",
        log_level="ERROR",
        **options,
    )
    runner.train()
    return runner


def finite(runner_or_state: dict[str, Tensor]) -> bool:
    return all(value.isfinite().all() for value in runner_or_state.values())


def test_a_finite_run_goes_through_and_leaves_no_hooks(tmp_path: Path):
    model = run(tmp_path, Chain(nn.Identity()), poison=1.0).model
    assert not list(tmp_path.glob("nonfinite*"))
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


@pytest.mark.parametrize("compiled", [False, True])
def test_a_loss_that_is_not_finite(tmp_path: Path, compiled: bool):
    options = {"cfg": {"compile": {"backend": "eager"}}} if compiled else {}
    with pytest.raises(NonFiniteError) as raised:
        run(tmp_path, Chain(Reciprocal()), **options)
    message = str(raised.value)
    assert message.startswith("At iteration 3, loss_part is not finite.")
    assert "The first output that is not finite is that of breaking." in message
    assert "No weight has been changed by it" in message
    saved = torch.load(tmp_path / "nonfinite_iter_3.pth", weights_only=False)
    assert saved["kwargs"]["inputs"].tolist() == [[100.0] * 3]
    assert finite(saved["state_dict"])


def test_a_gradient_that_is_not_finite(tmp_path: Path):
    with pytest.raises(NonFiniteError) as raised:
        run(tmp_path, Chain(Root()))
    message = str(raised.value)
    assert "the gradients of 2 parameters are not finite, e.g. of first.bias" in message
    assert "Backwards, the output of dropout is the first" in message
    assert "after that of breaking." in message
    saved = torch.load(tmp_path / "nonfinite_iter_3.pth", weights_only=False)
    assert finite(saved["state_dict"])


class Groups(Chain):
    """Its own parameter comes before those of its layers, and has a finite gradient."""

    def __init__(self) -> None:
        super().__init__(Root())
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, inputs: Tensor, mode: str = "tensor") -> dict[str, Tensor]:
        return {"loss": super().forward(inputs)["loss_part"] + (self.scale * 2).sum()}


@pytest.mark.parametrize("constructor", ["Default", "mmquad.StateSpace"])
def test_a_gradient_in_any_group_of_parameters(tmp_path: Path, constructor: str):
    """Constructors with options make one group per parameter; here the first is fine."""
    wrapper = {
        "constructor": f"{constructor}OptimWrapperConstructor",
        "paramwise_cfg": {"bias_decay_mult": 0.0},
        "optimizer": {"type": "AdamW", "lr": 0.01, "weight_decay": 0.1},
    }
    model = Groups()
    with pytest.raises(NonFiniteError, match="the gradients of 2 parameters are not finite"):
        run(tmp_path, model, optim_wrapper=wrapper)
    assert finite(model.state_dict())


def test_a_batch_that_is_not_finite(tmp_path: Path):
    with pytest.raises(NonFiniteError, match=r"The batch itself is not finite\."):
        run(tmp_path, Chain(nn.Identity()), poison=float("nan"))


def test_a_full_disk_does_not_hide_the_message(tmp_path: Path, monkeypatch):
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(finite_guard, "write_atomically", full)
    with pytest.raises(NonFiniteError, match=r"(?s)output .* that of breaking.*could not be saved"):
        run(tmp_path, Chain(Reciprocal()))


def test_weights_spoilt_before_are_not_called_good(tmp_path: Path):
    model = Chain(nn.Identity())
    nn.init.constant_(model.last.bias, torch.inf)
    with pytest.raises(NonFiniteError, match=r"1 parameters were not finite before") as raised:
        run(tmp_path, model)
    assert "the last checkpoint is good" not in str(raised.value)


class Between(Chain):
    def forward(self, inputs: Tensor, mode: str = "tensor") -> dict[str, Tensor]:
        return {"loss": self.last(self.first(inputs) / (inputs < 50)).mean()}


def test_values_computed_between_modules(tmp_path: Path):
    with pytest.raises(NonFiniteError, match="What reaches last is not finite, though every"):
        run(tmp_path, Between(nn.Identity()))
