"""Export a trained model's backbone (or a whole classifier) for inference, and check the result.

mmquad export CONFIG CHECKPOINT backbone.onnx --size 512 512
mmquad export CONFIG CHECKPOINT backbone.pt2 --size 800 1344

The suffix decides: .onnx (standard operators), .pt2 (torch.export). One file serves one image size.
Images are given normalised, as the config's data preprocessor leaves them.
"""

import argparse
from pathlib import Path

import torch

from mmquad.errors import SetupError
from mmquad.export import check_onnx, check_program, export_onnx, export_program
from mmquad.export.onnx_files import SCAN_FORMS
from mmquad.inference.model_loading import build_model

TOLERANCE = 1e-4


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("config", help="path of the config, or its name")
    parser.add_argument("checkpoint", help="path or URL of the weights")
    parser.add_argument("target", type=exported_file, help="file to write: .onnx or .pt2")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        required=True,
        help="of the images",
    )
    parser.add_argument("--batch", type=int, default=1, help="images at a time (default: 1)")
    parser.add_argument(
        "--scan",
        choices=SCAN_FORMS,
        default="loop",
        help="the scan in an ONNX file: a loop over tokens (default, fastest on CPUs) or doubling "
        "(for GPUs, and runtimes without the operator Scan)",
    )
    parser.add_argument(
        "--classifier", action="store_true", help="the whole classifier: one output, its scores"
    )


def exported_file(text: str) -> Path:
    """The path of a file that can be written."""
    if Path(text).suffix not in (".onnx", ".pt2"):
        raise argparse.ArgumentTypeError(f"must end in .onnx or .pt2, got {Path(text).name}")
    return Path(text)


def run(args: argparse.Namespace) -> None:
    """Export, then compare with the model."""
    try:
        model, _ = build_model(args.config, args.checkpoint)
    except SetupError as error:
        raise SystemExit(f"\nNothing was written.\n{error}\n") from None
    args.target.parent.mkdir(parents=True, exist_ok=True)
    exported = model if args.classifier else model.get_submodule("backbone")
    image = torch.randn(args.batch, 3, *args.size)
    if args.target.suffix == ".onnx":
        export_onnx(exported, image, args.target, scan=args.scan)
        differences = check_onnx(args.target, exported, image)
    else:
        torch.export.save(export_program(exported, image), args.target)
        differences = check_program(torch.export.load(args.target), exported, image)
    for i, difference in enumerate(differences):
        print(
            f"output_{i}: largest difference from the model {difference:.1e} of its largest value"
        )
    print(
        f"{args.target}: {args.target.stat().st_size / 2**20:.1f} MiB, images {tuple(image.shape)}"
    )
    if max(differences) > TOLERANCE:
        raise SystemExit(f"The exported graph differs by more than {TOLERANCE:.0e}: do not use it.")
