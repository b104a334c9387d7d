"""Write a folder for a model hub: model.safetensors, config.json, config.py and a model card.

python tools/model_converters/export_hub.py CONFIG work_dirs/run/epoch_12.pth hub/my-detector \\
    --metrics work_dirs/run/20260101_000000/20260101_000000.json --dataset "COCO val2017"

Then: hf upload owner/my-detector hub/my-detector
"""

import argparse

from mmengine.config import DictAction

from mmquad.errors import SetupError, exit_with
from mmquad.publishing import export_hub


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config of the model")
    parser.add_argument("checkpoint", help="its weights: path, URL or hf://owner/name/file")
    parser.add_argument("folder", help="folder to write, absent or empty")
    parser.add_argument("--metrics", help="JSON file that a test wrote; nothing else is claimed")
    parser.add_argument("--dataset", help="name of the data they were measured on")
    parser.add_argument("--name", help="name on the card; default the config's")
    parser.add_argument("--license", help="licence of the weights, e.g. apache-2.0")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE")
    return parser.parse_args()


def main() -> None:
    try:
        print(export_hub(**vars(parse_args())))
    except SetupError as error:
        exit_with(error)


if __name__ == "__main__":
    main()
