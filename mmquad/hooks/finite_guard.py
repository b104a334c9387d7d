"""Stops a training at the first loss or gradient that is NaN or infinite, before it does harm."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn

from mmquad.checks.policy import is_on
from mmquad.hooks.atomic_files import write_atomically
from mmquad.hooks.finite_replay import Call, Replay, all_finite, floating_tensors
from mmquad.registry import HOOKS

__all__ = ["FiniteGuardHook", "NonFiniteError"]

# Integers of as many bytes as the numbers whose bits they are seen as.
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class NonFiniteError(FloatingPointError):
    """A loss or a gradient is NaN or infinite; the message names the layer and the saved batch."""


@dataclass(frozen=True)
class _Check:
    """What the device knows of some values, and this process does not yet.

    Args:
        iteration: Number of the iteration, from 0.
        calls: The forward passes that they come from.
        of: Names of losses, or parameters.
        finite: Of each whether it is finite, on the device.
    """

    iteration: int
    calls: tuple[Call, ...]
    of: list[Any]
    finite: Tensor


@HOOKS.register_module()
class FiniteGuardHook(Hook):
    """Raise at a loss or gradient that is not finite, with the layer's name and the batch saved.

    Every loss and, before every step of an optimizer, every gradient is looked at, where it is: on
    the device, which nothing waits for. The device itself then makes the gradients of that step,
    and of later ones, zero. What it found is read at the end of every ``interval``-th iteration,
    where mmengine reads the losses for its log, and before anything is validated or saved. So

    * a checkpoint never holds weights, averages or states of an optimizer that were reached through
      such a gradient;
    * weights stay finite. Until the error is raised they move by momentum and weight decay alone,
      once with ``interval=1``.

    Then the same batch is run again, with the same random numbers, and every module is watched: the
    first whose output is not finite though its inputs are is named (for gradients, the first in the
    backward pass that receives one).

    Each process looks at its own losses and at the gradients, which all have in common. Of a loss
    that is infinite while all gradients are finite (an infinite constant) only its own process
    knows: it raises, and the others have made that step.

    Loss scaling (fp16) overflows on purpose: the scaler skips such steps, and so does this.

    Args:
        gradients: Watch gradients too. It costs two passes over them per step, on the device.
        save: Write ``nonfinite_iter_<n>.pth`` to the work dir: batch, weights, random states and
            the message. It holds Python objects: ``torch.load(path, weights_only=False)``.
        interval: Iterations from one reading to the next; their batches are kept until then.

    Raises:
        ValueError: ``interval`` is less than 1.
    """

    priority = "VERY_HIGH"

    def __init__(self, gradients: bool = True, save: bool = True, interval: int = 1) -> None:
        if interval < 1:
            raise ValueError(f"interval must be at least 1 iteration, got {interval}")
        self.gradients = gradients
        self.save = save
        self.interval = interval
        self._handles: list[Any] = []
        self._wrappers: list[OptimWrapper] = []
        self._forget()

    def before_train(self, runner: Runner) -> None:
        """Watch the model (inside its wrappers) and its optimizers."""
        if not is_on("finite"):
            return
        self._runner = runner
        model = runner.model
        while is_model_wrapper(model):
            model = model.module
        self._model: nn.Module = model
        self._replay = Replay(model, runner.optim_wrapper)
        self._wrappers = _wrappers(runner.optim_wrapper)
        self._forget()
        # Not decorators, which would import PyTorch's compiler, half a second, with this module.
        remember = torch.compiler.disable(self._remember)
        check_losses = torch.compiler.disable(self._check_losses)
        self._handles = [
            model.register_forward_pre_hook(remember, with_kwargs=True),
            model.register_forward_hook(check_losses),
        ]
        for wrapper in self._wrappers:
            self._handles.append(wrapper.optimizer.register_step_pre_hook(self._before_step))

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Look at gradients that wait for a later step; read every so often."""
        for wrapper in self._wrappers if self.gradients else ():
            # What is scaled may overflow; its scaler looks at it when it is unscaled.
            if wrapper.optimizer not in self._stepped and not hasattr(wrapper, "loss_scaler"):
                self._check_gradients(wrapper.optimizer)
        self._stepped.clear()
        self._calls.clear()
        if self._is_due(runner):
            self._read()

    def after_train_epoch(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Read before an epoch's checkpoint."""
        self._read()

    def before_val(self, runner: Runner) -> None:
        """Validate no spoilt weights."""
        self._read()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save no spoilt weights."""
        self._read()

    def after_train(self, runner: Runner) -> None:
        """Leave the model as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._read()

    def _is_due(self, runner: Runner) -> bool:
        """Whether to read: in all processes at once, though only the first saves checkpoints."""
        saving = [h for h in runner.hooks if isinstance(h, CheckpointHook) and not h.by_epoch]
        intervals = [self.interval, *(hook.interval for hook in saving)]
        is_end = any(self.every_n_train_iters(runner, interval) for interval in intervals)
        return is_end or self.is_last_train_iter(runner)

    def _forget(self) -> None:
        self._checks: list[_Check] = []
        self._calls: list[Call] = []  # of this iteration
        self._stepped: set[torch.optim.Optimizer] = set()
        self._spoilt: Tensor | None = None  # [], bool, on a device

    def _remember(self, model: nn.Module, args: tuple, kwargs: dict) -> None:
        if model.training and not self._replay.is_running:
            self._calls.append(Call(self._runner.iter, args, kwargs))

    def _check_losses(self, model: nn.Module, args: tuple, output: Any) -> None:
        if not model.training or self._replay.is_running or not isinstance(output, dict):
            return
        losses = [(k, t) for k, v in output.items() if "loss" in k for t in floating_tensors(v)]
        if losses:
            # mmengine trains on the mean of each.
            means = [t.detach() if t.ndim == 0 else t.detach().mean() for _, t in losses]
            self._add(self._calls[-1:], [name for name, _ in losses], means)

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self._stepped.add(optimizer)
        scaled = getattr(optimizer, "found_inf", None)
        if scaled is not None:
            # A fused optimizer under a scaler, which has looked: it skips the step where this is 1.
            if self._spoilt is not None:
                optimizer.found_inf = torch.maximum(scaled, self._spoilt.to(scaled))
            return
        if self.gradients:
            self._check_gradients(optimizer)
        if self._spoilt is not None:
            _zero_where(self._spoilt, [grad for _, grad in _gradients(optimizer)])

    def _check_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        pairs = _gradients(optimizer)
        if pairs:
            largest = _largest([grad for _, grad in pairs])
            self._add(self._calls, [parameter for parameter, _ in pairs], largest)

    def _add(self, calls: Iterable[Call], of: list, values: Iterable[Tensor]) -> None:
        """Queue the question whether these scalars are finite."""
        first, *others = values
        finite = torch.stack([first, *(v.to(first.device, non_blocking=True) for v in others)])
        finite = finite.isfinite()
        spoilt = ~finite.all()
        if self._spoilt is not None:
            spoilt = spoilt | self._spoilt.to(spoilt.device, non_blocking=True)
        self._spoilt = spoilt
        self._checks.append(_Check(self._runner.iter, tuple(calls), of, finite))

    def _read(self) -> None:
        """Wait for the device; raise if it found something."""
        checks, self._checks = self._checks, []
        if not checks or self._spoilt is None or not self._spoilt.item():
            return
        check = next(check for check in checks if not check.finite.all())
        self._spoilt = None
        bad = [of for of, finite in zip(check.of, check.finite.tolist(), strict=True) if not finite]
        if isinstance(bad[0], str):
            problem = f"{', '.join(dict.fromkeys(bad))} is not finite"
            find = self._replay.first_in_forward
        else:
            names = {id(parameter): name for name, parameter in self._model.named_parameters()}
            last = names.get(id(bad[-1]), "one outside of the model")
            problem = f"the gradients of {len(bad)} parameters are not finite, e.g. of {last}"
            find = self._replay.first_in_backward
        # Some models take their training step without being called as a whole.
        place = find(check.calls) if check.calls else "No batch is known that could be run again."
        self._stop(check, f"{problem}. {place}")

    def _stop(self, check: _Check, problem: str) -> None:
        message = f"At iteration {check.iteration + 1}, {problem}"
        if all(all_finite(parameter.data) for parameter in self._model.parameters()):
            message += (
                "\nNo weight is spoilt: the step was made with gradients of zero. The last "
                "checkpoint is good."
            )
        if self.save and check.calls:
            message += f"\n{self._save(check.calls[-1], message)}"
        message += (
            "\nWhat to do: look at the batch; try a lower learning rate, a longer warm-up, gradient"
            " clipping, or bf16 or fp32 in place of fp16."
        )
        raise NonFiniteError(message)

    def _save(self, call: Call, message: str) -> str:
        """Write what is needed to see it again, and say where that is."""
        rank = f"_rank_{get_rank()}" if get_world_size() > 1 else ""
        path = Path(self._runner.work_dir) / f"nonfinite_iter_{call.iteration + 1}{rank}.pth"
        content = io.BytesIO()
        try:
            torch.save(
                {
                    "message": message,
                    "args": call.args,
                    "kwargs": call.kwargs,
                    "random": call.random,
                    "state_dict": self._model.state_dict(),
                },
                content,
            )
            write_atomically(path, content.getvalue())
        # A full disk, or an object in the batch that cannot be pickled: the message matters more.
        except Exception as error:
            return f"The batch could not be saved in {path}: {error}."
        return f"The batch, the weights and the random states are in {path}."


def _wrappers(wrapper: Any) -> list[OptimWrapper]:
    """Those that have an optimizer: several in adversarial trainings, none of DeepSpeed's."""
    if isinstance(wrapper, OptimWrapperDict):
        return list(wrapper.optim_wrappers.values())
    return [wrapper] if isinstance(wrapper, OptimWrapper) else []


def _gradients(optimizer: torch.optim.Optimizer) -> list[tuple[nn.Parameter, Tensor]]:
    """Parameters and their gradients, as plain dense tensors of real numbers."""
    found = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            grad = parameter.grad
            if grad is None:
                continue
            grad = grad.to_local() if hasattr(grad, "to_local") else grad  # sharded
            grad = grad._values() if grad.is_sparse else grad
            grad = torch.view_as_real(grad) if grad.is_complex() else grad
            if grad.numel():
                found.append((parameter, grad.detach()))
    return found


def _largest(tensors: list[Tensor]) -> list[Tensor]:
    """Of each the largest value, or one that is not finite if there is any.

    No sum of squares: that of finite numbers may overflow. Few kernels for many tensors where that
    matters; on a CPU these are ten times as slow as taking extremes one by one.
    """
    if tensors[0].is_cpu:
        return [torch.maximum(high, -low) for low, high in map(torch.aminmax, tensors)]
    return list(torch._foreach_norm(tensors, float("inf")))


def _zero_where(spoilt: Tensor, grads: list[Tensor]) -> None:
    """Make gradients zero if a flag on the device is set, without asking it.

    0 times NaN is NaN. Their bits, seen as integers, times 1 are the same, and times 0 are zero:
    one kernel for many tensors, where ``masked_fill_`` takes one for each.
    """
    groups: dict[tuple, list[Tensor]] = {}
    for grad in grads:
        kind = _BITS[grad.element_size()]
        groups.setdefault((grad.device, kind), []).append(grad.view(kind))
    for (device, kind), bits in groups.items():
        keep = (~spoilt).to(device=device, dtype=kind, non_blocking=True)
        torch._foreach_mul_(bits, keep)
