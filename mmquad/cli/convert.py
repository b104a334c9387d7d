"""Convert released weights into a checkpoint that the configs here load.

QuadMamba, VMamba, Vim, PlainMamba, LocalMamba, MambaVision, Spatial-Mamba, GroupMamba and
EfficientVMamba; classifiers, and detectors and segmentors on them. Which model a file holds is read
from it (mmquad identify says it without converting), except LocalMamba's directions: name
the arch, e.g. with --arch tiny-middle-cls.

mmquad convert quadmamba_small.pth weights/quadmamba-small_3rdparty.pth

A target named *.safetensors is written in that format.

Then give it to a config: --cfg-options model.backbone.init_cfg.type=Pretrained
model.backbone.init_cfg.prefix=backbone.
model.backbone.init_cfg.checkpoint=weights/quadmamba-small_3rdparty.pth
and, for QuadMamba, model.backbone.quadtree=released.
"""

import argparse

from mmquad.checkpoints import CheckpointFileError, CheckpointMismatchError
from mmquad.releases.convert import convert_file
from mmquad.releases.table import installed_table, read_table


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("source", help="released file, of torch.save or safetensors")
    parser.add_argument("target", help="file to write, *.pth or *.safetensors")
    parser.add_argument(
        "--arch", help="name of the architecture; needed for LocalVim and LocalVMamba only"
    )
    parser.add_argument(
        "--key", help="place of the weights, if the file has several sets, e.g. model_ema"
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="also open files that hold other objects than weights, as dumps of trainers do. "
        "THIS RUNS CODE that the author of the file chose, with your rights: use it only for files "
        "from a source that you trust",
    )


def run(args: argparse.Namespace) -> None:
    """Convert, then say how well it fits."""
    try:
        result = convert_file(
            args.source,
            args.target,
            arch=args.arch,
            key=args.key,
            trust=args.trust,
            table=read_table(installed_table()),
        )
    except (CheckpointFileError, CheckpointMismatchError, OSError) as error:
        raise SystemExit(f"\nNothing was written.\n{error}\n") from None
    # anything missing or unexpected would have been an error
    print(f"matched {result.matched} of {result.total}, missing 0, unexpected 0")
    print(f"model     {result.model}")
    print(f"arch      {result.arch}")
    for name, value in result.settings.items():
        print(f"{name:<9} {value}")
    if result.licence:
        print(f"licence   {result.licence}")
    print(f"sha256    {result.meta['sha256']} (of {result.meta['source']})")
    print(args.target)
