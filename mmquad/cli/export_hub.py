"""Write a folder for a model hub: model.safetensors, config.json, config.py and a model card.

mmquad export-hub CONFIG work_dirs/run/epoch_12.pth hub/my-detector \\
    --metrics work_dirs/run/20260101_000000/20260101_000000.json --dataset "COCO val2017"

Then: hf upload owner/my-detector hub/my-detector
"""

import argparse

from mmquad.engine.command_line import add_overrides
from mmquad.errors import SetupError, exit_with
from mmquad.publishing import export_hub


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("config", help="config of the model, or its name")
    parser.add_argument("checkpoint", help="its weights: path, URL or hf://owner/name/file")
    parser.add_argument("folder", help="folder to write, absent or empty")
    parser.add_argument("--metrics", help="JSON file that a test wrote; nothing else is claimed")
    parser.add_argument("--dataset", help="name of the data they were measured on")
    parser.add_argument("--name", help="name on the card; default the config's")
    parser.add_argument("--license", help="licence of the weights, e.g. apache-2.0")
    add_overrides(parser)


def run(args: argparse.Namespace) -> None:
    """Write the folder."""
    options = {k: v for k, v in vars(args).items() if k not in ("run", "given")}
    try:
        print(export_hub(**options))
    except SetupError as error:
        exit_with(error)
