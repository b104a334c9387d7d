"""Mixed precision in bfloat16, on CPUs too."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmquad.registry import OPTIM_WRAPPERS

__all__ = ["Bf16OptimWrapper"]


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """Run the forward pass under autocast to bfloat16; weights and updates stay as they are.

    bfloat16 has the range of float32, so losses need no scaling; mmengine's ``AmpOptimWrapper``
    scales them, or not, but refuses CPUs. The other arguments are those of ``OptimWrapper``.

    Args:
        optimizer: The optimizer.
        accumulative_counts: Iterations per step.
        clip_grad: Arguments of gradient clipping.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        accumulative_counts: int = 1,
        clip_grad: dict | None = None,
    ) -> None:
        super().__init__(optimizer, accumulative_counts, clip_grad)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast on the device of the model."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield
