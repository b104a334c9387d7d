"""Backbones as graphs: ``torch.export`` programs and ONNX files, and the check against eager."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from mmquad.export.decompositions import scan_decompositions
from mmquad.scans.library import constant_tables

__all__ = ["check_onnx", "check_program", "export_onnx", "export_program"]


class _ImageToTuple(nn.Module):
    """Names the input ``image`` and the outputs a tuple, whatever the model calls them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        outputs = self.model(image)
        return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def export_program(
    model: nn.Module, image: Tensor, *, keep_scan_ops: bool = False
) -> ExportedProgram:
    """``torch.export`` of a model in evaluation, for one image size and batch.

    The size is fixed: the orders in which tokens are read are tables of that size. Export once per
    size.

    Args:
        model: Maps ``[B, 3, H, W]`` to a tensor or a tuple of tensors; in eval mode.
        image: Of the size to export for.
        keep_scan_ops: Leave ``mmquad::`` ops in the graph: it then needs this package to run, and
            runs as fast as the model. Otherwise it consists of PyTorch's own operations alone.

    Raises:
        ValueError: The model is in training mode, whose window choices are random.
    """
    if model.training:
        raise ValueError(
            "expected a model in eval mode, got one in training mode: call model.eval()"
        )
    with torch.no_grad():  # a graph that keeps no states for a gradient
        with constant_tables(torch.int32 if keep_scan_ops else torch.int64):
            program = torch.export.export(_ImageToTuple(model).eval(), (image,), strict=False)
        return program if keep_scan_ops else _decompose(program)


def _decompose(program: ExportedProgram) -> ExportedProgram:
    table = torch.export.default_decompositions()
    for op, decomposition in scan_decompositions().items():
        table[op] = decomposition
    return program.run_decompositions(table)


def export_onnx(model: nn.Module, image: Tensor, path: str | Path) -> None:
    """Write a model in evaluation as an ONNX file, for one image size and batch.

    Input ``image``, outputs ``output_0``, ``output_1``, ...; standard operators only. Needs the
    packages onnx and onnxscript.

    Raises:
        ValueError: See :func:`export_program`.
    """
    program = export_program(model, image)
    outputs = len(program.graph_signature.user_outputs)
    onnx_program = torch.onnx.export(
        program,
        dynamo=True,
        input_names=["image"],
        output_names=[f"output_{i}" for i in range(outputs)],
        verbose=False,
    )
    assert onnx_program is not None
    onnx_program.save(str(path))


def check_program(program: ExportedProgram, model: nn.Module, image: Tensor) -> list[float]:
    """Run an exported program and the model on an image; compare as :func:`check_onnx` does."""
    with torch.no_grad():
        return _differences(program.module()(image), _ImageToTuple(model)(image))


def check_onnx(path: str | Path, model: nn.Module, image: Tensor) -> list[float]:
    """Run an ONNX file and the model on an image; compare.

    Needs the package onnxruntime.

    Returns:
        For each output, the largest difference over the largest value of the model's.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = [torch.from_numpy(output) for output in session.run(None, {"image": image.numpy()})]
    with torch.no_grad():
        return _differences(outputs, _ImageToTuple(model)(image))


def _differences(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> list[float]:
    return [
        float((output - reference).abs().max() / reference.abs().max())
        for output, reference in zip(outputs, expected, strict=True)
    ]
