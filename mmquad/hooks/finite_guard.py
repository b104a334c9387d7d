"""Stops a training at the first loss or gradient that is NaN or infinite, before it does harm."""

import contextlib
import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmquad.checks.policy import is_on
from mmquad.hooks.atomic_files import write_atomically
from mmquad.registry import HOOKS

__all__ = ["FiniteGuardHook", "NonFiniteError"]


class NonFiniteError(FloatingPointError):
    """A loss or a gradient is NaN or infinite; the message names the layer and the saved batch."""


@HOOKS.register_module()
class FiniteGuardHook(Hook):
    """Raise at a loss or gradient that is not finite, with the layer's name and the batch saved.

    Losses are looked at after every forward pass, before the backward pass; gradients before every
    step of the optimizer: no weight is touched. Only then the same batch is run again, with the
    same random numbers, and every module is watched: the first whose output is not finite though
    its inputs are is named (for gradients, the first in the backward pass that receives one).

    Dynamic loss scaling (fp16) overflows on purpose: mmengine skips such steps, and so does this.

    Args:
        gradients: Watch gradients too. It costs one pass over them per step.
        save: Write ``nonfinite_iter_<n>.pth`` to the work dir: batch, weights, random states and
            the message. It holds Python objects: ``torch.load(path, weights_only=False)``.
    """

    priority = "VERY_HIGH"

    def __init__(self, gradients: bool = True, save: bool = True) -> None:
        self.gradients = gradients
        self.save = save
        self._runner: Runner | None = None
        self._handles: list[Any] = []
        self._call: tuple[tuple, dict] = ((), {})
        self._random: dict[str, Any] = {}
        self._replaying = False

    def before_train(self, runner: Runner) -> None:
        """Watch the model (inside its wrappers) and the optimizer."""
        if not is_on("finite"):
            return
        self._runner = runner
        model = runner.model
        while is_model_wrapper(model):
            model = model.module
        self._model: nn.Module = model
        self._handles = [
            model.register_forward_pre_hook(self._remember, with_kwargs=True),
            model.register_forward_hook(self._check_losses),
        ]
        wrapper = runner.optim_wrapper
        if self.gradients and isinstance(wrapper, OptimWrapper):
            self._handles.append(wrapper.optimizer.register_step_pre_hook(self._check_gradients))

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @torch.compiler.disable
    def _remember(self, model: nn.Module, args: tuple, kwargs: dict) -> None:
        if model.training and not self._replaying:
            self._call, self._random = (args, kwargs), _random_states()

    @torch.compiler.disable
    def _check_losses(self, model: nn.Module, args: tuple, output: Any) -> None:
        if not model.training or self._replaying or not isinstance(output, dict):
            return
        losses = {k: v for k, v in output.items() if "loss" in k}
        bad = [name for name, value in losses.items() if not _finite(value)]
        if not bad:
            return
        problem = f"{', '.join(bad)} is not finite"
        self._stop(problem, self._first_in_forward())

    def _check_gradients(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
        grads = [grad for grad in grads if grad is not None]
        if not grads or torch.stack(torch._foreach_norm(grads)).isfinite().all():
            return
        bad = [
            name
            for name, parameter in self._model.named_parameters()
            if parameter.grad is not None and not parameter.grad.isfinite().all()
        ]
        problem = f"the gradients of {len(bad)} parameters are not finite, e.g. of {bad[-1]}"
        self._stop(problem, self._first_in_backward())

    def _first_in_forward(self) -> str:
        """Run the batch again and say where the first value that is not finite comes from."""
        spoilt = [n for n, p in self._model.named_parameters() if not _finite(p.data)]
        if spoilt:
            return f"{len(spoilt)} parameters were not finite before, e.g. {spoilt[0]}."
        if not _finite(self._call):
            return "The batch itself is not finite."
        found: list[str] = []

        def watch(name: str, inputs: Any, output: Any) -> None:
            if found or _finite(output):
                return
            if _finite(inputs):
                found.append(f"The first output that is not finite is that of {name}.")
            else:
                found.append(f"What reaches {name} is not finite, though every earlier output is.")

        with torch.no_grad():
            self._replay(watch)
        return found[0] if found else "Every output of a module is finite: look at the loss itself."

    def _first_in_backward(self) -> str:
        """Run the batch again, forward and backward, and say between which outputs it happens."""
        arrived: list[tuple[str, bool]] = []

        def watch(name: str, inputs: Any, output: Any) -> None:
            for tensor in _tensors(output):
                if tensor.requires_grad:
                    tensor.register_hook(lambda g: arrived.append((name, _finite(g))))

        with torch.enable_grad():
            losses = self._replay(watch)
            parts = [t for k, v in losses.items() if "loss" in k for t in _tensors(v)]
            torch.stack([part.mean() for part in parts]).sum().backward()
        bad = next((i for i, (_, finite) in enumerate(arrived) if not finite), None)
        if bad is None:
            return (
                "Run again, the gradients of all outputs of modules are finite: it is the gradient "
                "of a parameter alone, or the batch of another process."
            )
        place = f"Backwards, the output of {arrived[bad][0]} is the first with such a gradient"
        return f"{place}, after that of {arrived[bad - 1][0]}." if bad else f"{place}."

    def _replay(self, watch: Callable[[str, Any, Any], None]) -> dict[str, Any]:
        """The forward pass of the last batch, every module's name, inputs and output watched."""
        assert self._runner is not None
        handles = [
            module.register_forward_hook(
                lambda _, args, kwargs, output, name=name: watch(name, (args, kwargs), output),
                with_kwargs=True,
            )
            for name, module in self._model.named_modules()
            if name
        ]
        args, kwargs = self._call
        self._replaying = True
        _set_random_states(self._random)
        try:
            with self._runner.optim_wrapper.optim_context(self._model), _eagerly():
                return self._model(*args, **kwargs)
        finally:
            self._replaying = False
            for handle in handles:
                handle.remove()

    def _stop(self, problem: str, place: str) -> None:
        runner = self._runner
        assert runner is not None
        message = f"At iteration {runner.iter + 1}, {problem}. {place}"
        if all(_finite(parameter.data) for parameter in self._model.parameters()):
            message += "\nNo weight has been changed by it: the last checkpoint is good."
        if self.save:
            message += f"\n{self._save(message)}"
        message += (
            "\nWhat to do: look at the batch; try a lower learning rate, a longer warm-up, gradient"
            " clipping, or bf16 or fp32 in place of fp16."
        )
        raise NonFiniteError(message)

    def _save(self, message: str) -> str:
        """Write what is needed to see it again, and say where that is."""
        assert self._runner is not None
        rank = f"_rank_{get_rank()}" if get_world_size() > 1 else ""
        path = Path(self._runner.work_dir) / f"nonfinite_iter_{self._runner.iter + 1}{rank}.pth"
        content = io.BytesIO()
        try:
            torch.save(
                {
                    "message": message,
                    "args": self._call[0],
                    "kwargs": self._call[1],
                    "random": self._random,
                    "state_dict": self._model.state_dict(),
                },
                content,
            )
            write_atomically(path, content.getvalue())
        # A full disk, or an object in the batch that cannot be pickled: the message matters more.
        except Exception as error:
            return f"The batch could not be saved in {path}: {error}."
        return f"The batch, the weights and the random states are in {path}."


def _tensors(value: Any) -> Iterator[Tensor]:
    """Floating point tensors in nested containers."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _finite(value: Any) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in _tensors(value))


def _random_states() -> dict[str, Any]:
    states = {"python": random.getstate(), "numpy": np.random.get_state()}
    states["torch"] = torch.get_rng_state()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_states(states: dict[str, Any]) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])


def _eagerly() -> contextlib.AbstractContextManager:
    """Without torch.compile, in whose graphs no module can be watched."""
    return torch.compiler.set_stance("force_eager")
