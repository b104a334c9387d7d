"""A loss or gradient that is not finite stops the run, names the layer and keeps the weights."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmquad.hooks import finite_guard
from mmquad.hooks.finite_guard import (
    FiniteGuardHook,
    NonFiniteError,
    _gradients,
    _largest,
    _zero_where,
)

BAD_ITERATION = 2  # of 0..3
GUARD = {"type": "mmquad.FiniteGuardHook"}
RUNS = itertools.count()
SGD = {"optimizer": {"type": "SGD", "lr": 0.01}}


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
        nn.init.uniform_(self.first.weight, 0.5, 1.0)  # ReLU lets all through, for inputs of 1
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
    model: BaseModel,
    *,
    poison: float = 100.0,
    guard: dict | None = GUARD,
    optim_wrapper: Any = None,
    epochs: int = 1,
    **options,
) -> Runner:
    if not isinstance(optim_wrapper, OptimWrapper):
        optim_wrapper = {"optimizer": {"type": "AdamW", "lr": 0.01}} | (optim_wrapper or {})
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
        train_cfg={"by_epoch": True, "max_epochs": epochs},
        optim_wrapper=optim_wrapper,
        custom_hooks=[] if guard is None else [GUARD | guard],
        experiment_name=f"{tmp_path.name}_{next(RUNS)}",
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


def test_batches_are_let_go(tmp_path: Path):
    runner = run(tmp_path, Chain(nn.Identity()), poison=1.0)
    (guard,) = [hook for hook in runner.hooks if isinstance(hook, FiniteGuardHook)]
    assert guard._calls == guard._checks == []


class Unlucky(nn.Module):
    """Infinite for one random number: the first that it draws in the bad iteration."""

    number = None

    def forward(self, x: Tensor) -> Tensor:
        drawn = torch.rand(())
        if self.number is None and not x.all():
            self.number = drawn
        return x + 1 / (drawn != self.number).float() if self.number is not None else x


def test_the_batch_is_run_again_with_the_same_random_numbers(tmp_path: Path):
    with pytest.raises(NonFiniteError, match="output that is not finite is that of breaking"):
        run(tmp_path, Chain(Unlucky()))


@pytest.mark.parametrize("compiled", [False, True])
def test_a_loss_that_is_not_finite(tmp_path: Path, compiled: bool):
    options = {"cfg": {"compile": {"backend": "eager"}}} if compiled else {}
    with pytest.raises(NonFiniteError) as raised:
        run(tmp_path, Chain(Reciprocal()), **options)
    message = str(raised.value)
    assert message.startswith("At iteration 3, loss_part is not finite.")
    assert "The first output that is not finite is that of breaking." in message
    assert "No weight is spoilt" in message
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


class Weights(Hook):
    """Keeps the weights as they are before each iteration."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Tensor]] = []

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        self.seen.append({k: v.clone() for k, v in runner.model.state_dict().items()})


def saved_by(folder: Path, iteration: int = BAD_ITERATION + 1) -> dict:
    assert [path.name for path in folder.glob("nonfinite*")] == [f"nonfinite_iter_{iteration}.pth"]
    return torch.load(folder / f"nonfinite_iter_{iteration}.pth", weights_only=False)


@pytest.mark.parametrize("breaking", [Reciprocal, Root])
@pytest.mark.parametrize("interval", [1, 2, 3, 10])
def test_however_late_it_is_read_nothing_is_spoilt(tmp_path: Path, breaking, interval: int):
    """The iteration, its batch and, without momentum, exactly its weights."""
    weights = Weights()
    with pytest.raises(NonFiniteError, match=r"At iteration 3.*\n.*No weight is spoilt"):
        run(
            tmp_path,
            Chain(breaking()),
            guard={"interval": interval},
            optim_wrapper=SGD,
            default_hooks={"weights": weights, "checkpoint": {"type": "CheckpointHook"}},
        )
    assert len(weights.seen) == {1: 3, 2: 4, 3: 3, 10: 4}[interval]
    saved = saved_by(tmp_path)
    assert saved["kwargs"]["inputs"].tolist() == [[100.0] * 3]
    before = weights.seen[BAD_ITERATION]
    assert all(torch.equal(saved["state_dict"][name], value) for name, value in before.items())
    assert not list(tmp_path.glob("epoch*"))


def test_with_momentum_weights_move_as_by_a_gradient_of_zero(tmp_path: Path):
    weights, momentum = Weights(), {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}
    model = Chain(Root())
    with pytest.raises(NonFiniteError):
        run(
            tmp_path,
            model,
            optim_wrapper={"optimizer": {"type": "SGD", **momentum}},
            default_hooks={"weights": weights},
        )
    _, second, third = weights.seen
    name = "last.bias"
    # v' = 0.9 v + gradient + 0.1 w and w' = w - 0.01 v', hence v from the last two steps
    velocity = (second[name] - third[name]) / 0.01
    expected = third[name] - 0.01 * (0.9 * velocity + 0.1 * third[name])
    found = saved_by(tmp_path)["state_dict"][name]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert not torch.equal(found, third[name])


def test_checkpoints_between_two_readings_are_good(tmp_path: Path):
    with pytest.raises(NonFiniteError, match="At iteration 3"):
        run(
            tmp_path,
            Chain(Root()),
            guard={"interval": 10},
            default_hooks={
                "checkpoint": {"type": "CheckpointHook", "interval": 1, "by_epoch": False}
            },
        )
    assert sorted(path.name for path in tmp_path.glob("iter*")) == ["iter_1.pth", "iter_2.pth"]


def test_all_processes_read_before_the_first_saves(tmp_path: Path, monkeypatch):
    """Only the first process of several calls the hooks of a checkpoint."""
    saved: list[int] = []
    monkeypatch.setattr(
        Runner, "save_checkpoint", lambda runner, *_, **__: saved.append(runner.iter)
    )
    for by_epoch, interval, expected in ((False, 1, [0, 1]), (False, 100, []), (True, 1, [])):
        saved.clear()
        checkpoint = {"type": "CheckpointHook", "by_epoch": by_epoch, "interval": interval}
        with pytest.raises(NonFiniteError, match="At iteration 3"):
            run(
                tmp_path / f"{by_epoch}_{interval}",
                Chain(Root()),
                guard={"interval": 10},
                epochs=2 if by_epoch else 1,
                default_hooks={"checkpoint": checkpoint},
            )
        assert saved == expected


def test_nothing_spoilt_is_validated(tmp_path: Path):
    with pytest.raises(NonFiniteError, match="At iteration 3"):
        run(tmp_path, Chain(Root()), guard={"interval": 10}, default_hooks={"val": Validates()})


class Validates(Hook):
    """Begins a validation in the bad iteration."""

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        if runner.iter == BAD_ITERATION + 1:
            runner.call_hook("before_val")
            pytest.fail("validated")


class Events(TorchDispatchMode):
    """What asks the device for a value and waits for it, and what happens between."""

    WAITING = ("_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in self.WAITING:
            self.seen.append(name)
        return function(*args, **(kwargs or {}))


class Marks(Hook):
    """Marks in the events where the forward pass begins and where the optimizer's step does."""

    priority = "LOWEST"

    def __init__(self, events: Events) -> None:
        self.events = events

    def before_train(self, runner: Runner) -> None:
        runner.optim_wrapper.optimizer.register_step_pre_hook(lambda *_: self.mark("step"))

    def before_train_iter(self, *args, **kwargs) -> None:
        self.mark("forward")

    def mark(self, name: str) -> None:
        self.events.seen.append(name)


@pytest.mark.parametrize("options", [{}, {"clip_grad": {"max_norm": 1.0}}])
def test_the_guard_never_waits_before_the_step_and_once_per_interval(tmp_path: Path, options: dict):
    seen = {}
    for interval in (None, 1, 2, 4):
        with Events() as events:
            run(
                tmp_path / str(interval),
                Chain(nn.Identity()),
                poison=1.0,
                guard=None if interval is None else {"interval": interval},
                optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.01}, **options},
                default_hooks={"marks": Marks(events)},
            )
        seen[interval] = events.seen
    plain = seen.pop(None)
    assert plain.count("step") == 4
    assert "_local_scalar_dense" in plain  # mmengine reads the losses for its log

    def until_step(events: list[str]) -> list[list[str]]:
        text = " ".join(events)
        return [part.split("step")[0].split() for part in text.split("forward")[1:]]

    for interval, events in seen.items():
        assert until_step(events) == until_step(plain)
        assert len(events) == len(plain) + 4 // interval


def scaled(optimizer: torch.optim.Optimizer, **options) -> OptimWrapper:
    """AmpOptimWrapper on a CPU: that of mmengine wants a GPU."""

    class Scaled(OptimWrapper):
        loss_scaler = torch.amp.GradScaler("cpu", init_scale=8.0)

        def backward(self, loss: Tensor, **kwargs) -> None:
            self.loss_scaler.scale(loss).backward(**kwargs)
            self._inner_count += 1

        def step(self, **kwargs) -> None:
            if self.clip_grad_kwargs:
                self.loss_scaler.unscale_(self.optimizer)
                self._clip_grad()
            self.loss_scaler.step(self.optimizer, **kwargs)
            self.loss_scaler.update()

    return Scaled(optimizer, **options)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"accumulative_counts": 2}, {"clip_grad": {"max_norm": 1.0}}]
)
def test_steps_that_a_gradient_scaler_skips_are_no_errors(
    tmp_path: Path, fused: bool, options: dict
):
    model = Chain(Root())
    wrapper = scaled(torch.optim.AdamW(model.parameters(), fused=fused), **options)
    run(tmp_path, model, optim_wrapper=wrapper)
    assert finite(model.state_dict())
    assert wrapper.loss_scaler.get_scale() == 4.0  # halved once


@pytest.mark.parametrize("fused", [False, True])
def test_a_loss_that_is_not_finite_is_one_under_a_scaler_too(tmp_path: Path, fused: bool):
    weights, model = Weights(), Constant(nn.Identity())
    wrapper = scaled(torch.optim.SGD(model.parameters(), lr=0.1, fused=fused))
    with pytest.raises(NonFiniteError, match="At iteration 3, loss is not finite"):
        run(tmp_path, model, optim_wrapper=wrapper, default_hooks={"weights": weights})
    before, after = weights.seen[BAD_ITERATION], saved_by(tmp_path)["state_dict"]
    assert all(torch.equal(after[name], value) for name, value in before.items())


class Constant(Chain):
    """An infinite loss whose gradients are finite."""

    def forward(self, inputs: Tensor, mode: str = "tensor") -> dict[str, Tensor]:
        infinite = torch.where(inputs.max() > 50, torch.inf, 0.0)
        return {"loss": self.last(self.first(inputs)).mean() + infinite}


@pytest.mark.parametrize("interval", [1, 2])
@pytest.mark.parametrize("counts", [2, 4])
def test_gradients_that_are_accumulated(tmp_path: Path, counts: int, interval: int):
    """Named is the batch that brought them, not the one with which the step would come."""
    weights = Weights()
    with pytest.raises(NonFiniteError, match=r"At iteration 3, the gradients of 2.*breaking"):
        run(
            tmp_path,
            Chain(Root()),
            guard={"interval": interval},
            optim_wrapper={**SGD, "accumulative_counts": counts},
            default_hooks={"weights": weights},
        )
    saved = saved_by(tmp_path)
    assert saved["kwargs"]["inputs"].max() == 100
    before = weights.seen[BAD_ITERATION]
    assert all(torch.equal(saved["state_dict"][name], value) for name, value in before.items())


def test_gradients_that_are_clipped(tmp_path: Path):
    """One that is infinite makes all of them zero or NaN."""
    with pytest.raises(NonFiniteError, match="Backwards, the output of dropout is the first"):
        run(tmp_path, Chain(Root()), optim_wrapper={**SGD, "clip_grad": {"max_norm": 1.0}})
    assert finite(saved_by(tmp_path)["state_dict"])


class Scale(torch.autograd.Function):
    """The identity, with gradients times a factor."""

    @staticmethod
    def forward(ctx, x: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return x.clone()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.saved_tensors[0], None


class OneParameter(Chain):
    """Only the gradient of one bias is not finite, or huge, in the bad iteration."""

    def __init__(self, name: str, factor: float) -> None:
        super().__init__(nn.Identity())
        self.name, self.factor = name, factor

    def forward(self, inputs: Tensor, mode: str = "tensor") -> dict[str, Tensor]:
        factor = torch.where(inputs.max() > 50, self.factor, 1.0)
        bias = Scale.apply(self.get_parameter(self.name), factor)
        # the bias reaches the loss beside its layer, too
        return {"loss": self.last(self.first(inputs)).mean() + bias.sum()}


@pytest.mark.parametrize("name", ["first.bias", "last.bias"])
def test_every_group_of_parameters_is_watched(tmp_path: Path, name: str):
    model = OneParameter(name, torch.nan)
    groups = [{"params": [p], "lr": 0.01} for p in model.parameters()]
    wrapper = OptimWrapper(torch.optim.AdamW(groups))
    with pytest.raises(NonFiniteError, match=f"gradients of 1 parameters .* e.g. of {name}"):
        run(tmp_path, model, optim_wrapper=wrapper)
    assert finite(model.state_dict())


def test_huge_gradients_are_finite(tmp_path: Path):
    """The sum of their squares is not."""
    run(tmp_path, OneParameter("first.bias", 1e30), optim_wrapper=SGD)


def test_without_gradients_only_losses_are_watched(tmp_path: Path):
    model = OneParameter("first.bias", torch.nan)
    with pytest.raises(NonFiniteError, match="At iteration 4, loss is not finite"):
        run(tmp_path / "a", model, guard={"gradients": False}, optim_wrapper=SGD)
    model = Chain(Reciprocal())
    with pytest.raises(NonFiniteError, match="At iteration 3, loss_part is not finite"):
        run(tmp_path / "b", model, guard={"gradients": False}, optim_wrapper=SGD)
    assert finite(model.state_dict())


class Adversaries(BaseModel):
    """Two parts, trained in turn by optimizers of their own; the second breaks."""

    def __init__(self, breaking: nn.Module, whole: bool) -> None:
        super().__init__()
        self.one, self.two, self.whole = Chain(nn.Identity()), Chain(breaking), whole

    def forward(self, inputs: Tensor, part: str) -> dict[str, Tensor]:
        return self.get_submodule(part)(inputs)

    def train_step(self, data: dict, optim_wrapper: OptimWrapperDict) -> dict[str, Tensor]:
        inputs = data["inputs"]
        for part in ("one", "two"):
            losses = self(inputs, part) if self.whole else self.get_submodule(part)(inputs)
            optim_wrapper[part].update_params(losses["loss_part"])
        return losses


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("breaking", [Root, Reciprocal])
def test_several_optimizers(tmp_path: Path, breaking, whole: bool):
    model = Adversaries(breaking(), whole)
    parts = {"one": model.one, "two": model.two}
    wrapper = OptimWrapperDict(
        **{k: OptimWrapper(torch.optim.SGD(v.parameters(), lr=0.01)) for k, v in parts.items()}
    )
    with pytest.raises(NonFiniteError, match="At iteration 3") as raised:
        run(tmp_path, model, optim_wrapper=wrapper)
    message = str(raised.value)
    if not whole:
        assert "of two." in message
        assert "No batch is known that could be run again." in message
    elif breaking is Root:
        assert "Backwards, the output of two.dropout is the first" in message
    else:
        assert "The first output that is not finite is that of two.breaking." in message
    assert finite(model.state_dict())


class Parts(Chain):
    """A loss of several numbers, of which mmengine takes the mean: the last is not finite."""

    def forward(self, inputs: Tensor, mode: str = "tensor") -> dict[str, Tensor | list[Tensor]]:
        x = self.last(self.first(inputs)).mean()
        bad = torch.where(inputs.max() > 50, torch.nan, 0.0)
        return {"loss_a": x, "loss_b": [x, torch.stack([x.detach(), bad])]}


def test_losses_of_several_numbers(tmp_path: Path):
    with pytest.raises(NonFiniteError, match=r"At iteration 3, loss_b is not finite\."):
        run(tmp_path, Parts(nn.Identity()), optim_wrapper=SGD)


def test_gradients_of_every_kind():
    def parameter(value: Tensor, grad: Tensor | None) -> nn.Parameter:
        made = nn.Parameter(value)
        made.grad = grad
        return made

    sparse = torch.sparse_coo_tensor([[1]], [[torch.nan, 1.0]], (3, 2))
    parameters = [
        parameter(torch.zeros(2), torch.ones(2)),
        parameter(torch.zeros(2), None),
        parameter(torch.zeros(0, 3), torch.zeros(0, 3)),
        parameter(torch.zeros(2, dtype=torch.complex64), torch.tensor([1j, torch.inf])),
        parameter(torch.zeros(3, 2), sparse),
    ]
    pairs = _gradients(torch.optim.SGD(parameters, lr=0.1))
    assert [found is parameters[i] for (found, _), i in zip(pairs, (0, 3, 4), strict=True)]
    grads = [grad for _, grad in pairs]
    assert [value.isfinite().item() for value in _largest(grads)] == [True, False, False]
    _zero_where(torch.tensor(True), grads)
    assert parameters[3].grad.abs().sum() == 0
    assert parameters[4].grad.to_dense().abs().sum() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_largest_value_is_that_of_the_norms_that_gpus_take(dtype: torch.dtype):
    rows = [[1.0, -3.0], [2.0, 0.5], [torch.nan, 1.0], [-torch.inf, 1.0], [-torch.inf, torch.inf]]
    tensors = [torch.tensor(row, dtype=dtype) for row in rows]
    expected = torch._foreach_norm(tensors, float("inf"))
    for found, value in zip(_largest(tensors), expected, strict=True):
        torch.testing.assert_close(found, value, rtol=0, atol=0, equal_nan=True)


def test_several_optimizers_that_accumulate(tmp_path: Path):
    """The batch is named that brought the gradient, of the second optimizer."""
    model = Adversaries(Root(), whole=True)
    parts = {"one": model.one, "two": model.two}
    wrappers = {
        name: OptimWrapper(torch.optim.SGD(part.parameters(), lr=0.01), accumulative_counts=4)
        for name, part in parts.items()
    }
    with pytest.raises(
        NonFiniteError, match=r"At iteration 3, .*output of two\.dropout is the first"
    ):
        run(tmp_path, model, optim_wrapper=OptimWrapperDict(**wrappers))
    assert saved_by(tmp_path)["args"][0].max() == 100


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_gradients_are_zero_or_the_very_same_bits(dtype: torch.dtype):
    values = torch.tensor([[1.5, -0.0, torch.nan], [torch.inf, -torch.inf, 6e-8]], dtype=dtype)
    for spoilt in (False, True):
        grads = [values.clone(), values.clone().t(), values.clone()[:, 1], values.to(torch.float32)]
        before = [grad.clone() for grad in grads]
        _zero_where(torch.tensor(spoilt), grads)
        for grad, old in zip(grads, before, strict=True):
            bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[grad.element_size()]
            expected = torch.zeros_like(old) if spoilt else old
            assert torch.equal(grad.contiguous().view(bits), expected.contiguous().view(bits))


def test_the_interval_is_a_number_of_iterations():
    with pytest.raises(ValueError, match="interval must be at least 1 iteration, got 0"):
        FiniteGuardHook(interval=0)
