"""Backbones as ONNX files of standard operators, and the check against eager."""

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from mmquad.export.decompositions import scan_decompositions
from mmquad.export.program import ImageToTuple, export_program, relative_differences

__all__ = ["SCAN_FORMS", "ScanForm", "check_onnx", "export_onnx"]

ScanForm = Literal["loop", "doubling"]
SCAN_FORMS: tuple[ScanForm, ...] = ("loop", "doubling")


def export_onnx(
    model: nn.Module, image: Tensor, path: str | Path, *, scan: ScanForm = "loop"
) -> None:
    """Write a model in evaluation as an ONNX file, for one image size and batch.

    Input ``image``, outputs ``output_0``, ``output_1``, ...; standard operators only. Needs torch
    2.8 or later and the packages onnx and onnxscript.

    Args:
        model: Maps ``[B, 3, H, W]`` to a tensor or a tuple of tensors; in eval mode.
        image: Of the size to export for.
        path: The file to write.
        scan: ``"loop"``: one ``Scan`` operator per layer, a step per token, the fastest form on a
            CPU (:mod:`mmquad.export.onnx_scan`). ``"doubling"``: log2(L) operators over the whole
            sequence, for runtimes without ``Scan`` and for GPUs, where every step of a loop starts
            kernels (:mod:`mmquad.export.doubling`).

    Raises:
        ValueError: See :func:`~mmquad.export.export_program`; or an unknown form of the scan.
    """
    import onnx

    from mmquad.export.onnx_scan import inline_recurrences, loop_decompositions

    if scan not in SCAN_FORMS:
        raise ValueError(f"scan must be one of {', '.join(SCAN_FORMS)}, got {scan!r}")
    scans = scan_decompositions() | (loop_decompositions() if scan == "loop" else {})
    program = export_program(model, image, scans=scans)
    outputs = len(program.graph_signature.user_outputs)
    exported = torch.onnx.export(
        program,
        dynamo=True,
        input_names=["image"],
        output_names=[f"output_{i}" for i in range(outputs)],
        verbose=False,
    )
    assert exported is not None
    onnx.save(inline_recurrences(exported.model_proto), path)


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
        return relative_differences(outputs, ImageToTuple(model)(image))
