"""Inference graphs of backbones for other runtimes: ``torch.export`` and ONNX."""

from mmquad.export.decompositions import scan_decompositions
from mmquad.export.onnx_files import check_onnx, export_onnx
from mmquad.export.program import check_program, export_program

__all__ = ["check_onnx", "check_program", "export_onnx", "export_program", "scan_decompositions"]
