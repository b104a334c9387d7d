"""Backbones as ``torch.export`` programs, and the check against eager."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from mmquad.export.decompositions import scan_decompositions
from mmquad.scans.library import constant_tables

__all__ = ["ImageToTuple", "check_program", "export_program", "relative_differences"]


class ImageToTuple(nn.Module):
    """Names the input ``image`` and the outputs a tuple, whatever the model calls them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        outputs = self.model(image)
        return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def export_program(
    model: nn.Module,
    image: Tensor,
    *,
    keep_scan_ops: bool = False,
    scans: Mapping[torch._ops.OpOverload, Callable] | None = None,
) -> ExportedProgram:
    """``torch.export`` of a model in evaluation, for one image size and batch.

    The size is fixed: the orders in which tokens are read are tables of that size. Export once per
    size.

    Args:
        model: Maps ``[B, 3, H, W]`` to a tensor or a tuple of tensors; in eval mode.
        image: Of the size to export for.
        keep_scan_ops: Leave ``mmquad::`` ops in the graph: it then needs this package to run, and
            runs as fast as the model. Otherwise it consists of PyTorch's own operations alone.
        scans: What becomes of ``mmquad::`` ops otherwise; default :func:`scan_decompositions`.

    Raises:
        ValueError: The model is in training mode, whose window choices are random.
    """
    if model.training:
        raise ValueError(
            "expected a model in eval mode, got one in training mode: call model.eval()"
        )
    with torch.no_grad():  # a graph that keeps no states for a gradient
        with constant_tables(torch.int32 if keep_scan_ops else torch.int64):
            program = torch.export.export(ImageToTuple(model).eval(), (image,), strict=False)
        if keep_scan_ops:
            return program
        table = torch.export.default_decompositions()
        for op, decomposition in (scans or scan_decompositions()).items():
            table[op] = decomposition
        return program.run_decompositions(table)


def check_program(program: ExportedProgram, model: nn.Module, image: Tensor) -> list[float]:
    """Run an exported program and the model on an image: :func:`relative_differences`."""
    with torch.no_grad():
        return relative_differences(program.module()(image), ImageToTuple(model)(image))


def relative_differences(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> list[float]:
    """For each output, the largest difference over the largest value that is expected."""
    return [
        float((output - reference).abs().max() / reference.abs().max())
        for output, reference in zip(outputs, expected, strict=True)
    ]
