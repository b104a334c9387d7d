"""Runs a batch again to say in which layer the first value that is not finite comes up."""

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

__all__ = ["Call", "Replay", "all_finite", "floating_tensors"]


@dataclass(frozen=True)
class Call:
    """A forward pass, with what is needed to repeat it.

    Args:
        iteration: Number of the iteration, from 0.
        args: Arguments of the model.
        kwargs: Keyword arguments of the model.
        random: States of the generators before it.
    """

    iteration: int
    args: tuple
    kwargs: dict
    random: dict[str, Any] = field(default_factory=lambda: _random_states())


class Replay:
    """Repeats forward passes of a model in training mode, every module watched.

    Args:
        model: The model, without wrappers.
        optim_wrapper: What sets the precision of its forward passes.
    """

    def __init__(self, model: nn.Module, optim_wrapper: Any) -> None:
        self._model = model
        if isinstance(optim_wrapper, OptimWrapperDict):
            # Each sets it for its part of a step; they differ in their optimizers only.
            optim_wrapper = next(iter(optim_wrapper.optim_wrappers.values()))
        self._wrapper = optim_wrapper
        self.is_running = False

    def first_in_forward(self, calls: tuple[Call, ...]) -> str:
        """Where the first value that is not finite comes from, in the last call."""
        call = calls[-1]
        spoilt = [n for n, p in self._model.named_parameters() if not all_finite(p.data)]
        if spoilt:
            return f"{len(spoilt)} parameters were not finite before, e.g. {spoilt[0]}."
        if not all_finite((call.args, call.kwargs)):
            return "The batch itself is not finite."
        found: list[str] = []

        def watch(name: str, inputs: Any, output: Any) -> None:
            if found or all_finite(output):
                return
            if all_finite(inputs):
                found.append(f"The first output that is not finite is that of {name}.")
            else:
                found.append(f"What reaches {name} is not finite, though every earlier output is.")

        with torch.no_grad():
            self._run(call, watch)
        return found[0] if found else "Every output of a module is finite: look at the loss itself."

    def first_in_backward(self, calls: tuple[Call, ...]) -> str:
        """Between which outputs the first gradient that is not finite arises, in any call."""
        for call in calls:
            arrived: list[tuple[str, bool]] = []
            self._run_backward(call, arrived)
            bad = next((i for i, (_, finite) in enumerate(arrived) if not finite), None)
            if bad is not None:
                place = (
                    f"Backwards, the output of {arrived[bad][0]} is the first with such a gradient"
                )
                return f"{place}, after that of {arrived[bad - 1][0]}." if bad else f"{place}."
        return (
            "Run again, the gradients of all outputs of modules are finite: it is the gradient "
            "of a parameter alone, or the batch of another process."
        )

    def _run_backward(self, call: Call, arrived: list[tuple[str, bool]]) -> None:
        def watch(name: str, inputs: Any, output: Any) -> None:
            for tensor in floating_tensors(output):
                if tensor.requires_grad:
                    tensor.register_hook(lambda g: arrived.append((name, all_finite(g))))

        with torch.enable_grad():
            losses = self._run(call, watch)
            parts = [t for k, v in losses.items() if "loss" in k for t in floating_tensors(v)]
            torch.stack([part.mean() for part in parts]).sum().backward()

    def _run(self, call: Call, watch: Callable[[str, Any, Any], None]) -> dict[str, Any]:
        """The forward pass again, every module's name, inputs and output watched."""
        handles = [
            module.register_forward_hook(
                lambda _, args, kwargs, output, name=name: watch(name, (args, kwargs), output),
                with_kwargs=True,
            )
            for name, module in self._model.named_modules()
            if name
        ]
        self.is_running = True
        _set_random_states(call.random)
        is_amp = isinstance(self._wrapper, OptimWrapper)
        precision = self._wrapper.optim_context(self._model) if is_amp else contextlib.nullcontext()
        try:
            # Without torch.compile, in whose graphs no module can be watched.
            with precision, torch.compiler.set_stance("force_eager"):
                return self._model(*call.args, **call.kwargs)
        finally:
            self.is_running = False
            for handle in handles:
                handle.remove()


def floating_tensors(value: Any) -> Iterator[Tensor]:
    """Floating point tensors in nested containers."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from floating_tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from floating_tensors(item)


def all_finite(value: Any) -> bool:
    """Whether all numbers in nested containers are finite; waits for the device."""
    return all(bool(tensor.isfinite().all()) for tensor in floating_tensors(value))


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
