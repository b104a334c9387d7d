"""Say which model a downloaded file holds, and which config it belongs to; nothing is written.

mmquad identify vssm1_tiny_0230s_ckpt_epoch_264.pth
"""

import argparse

from mmquad.checkpoints import CheckpointFileError, CheckpointMismatchError
from mmquad.releases.identify import identify_file
from mmquad.releases.table import installed_table, read_table


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", help="released file")
    parser.add_argument("--key", help="place of the weights, if the file has several sets")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="also open files that hold other objects than weights. THIS RUNS CODE that the author "
        "of the file chose, with your rights: use it only for files from a source that you trust",
    )


def run(args: argparse.Namespace) -> None:
    """Say what the file is."""
    try:
        found = identify_file(
            args.file, read_table(installed_table()), key=args.key, trust=args.trust
        )
    except (CheckpointFileError, CheckpointMismatchError) as error:
        raise SystemExit(f"\n{error}\n") from None
    print(f"model    {found.conversion.model}")
    print(f"arch     {found.conversion.arch}")
    for name, value in found.conversion.settings.items():
        print(f"{name:<8} {value}")
    print(f"task     {found.task}")
    if found.conversion.licence:
        print(f"licence  {found.conversion.licence}")
    if not found.entries:
        print("config   none of the released files listed in configs/checkpoints.yml fits")
    for row in found.entries:
        why = "same checksum" if found.known else "same model and task"
        reported = ", ".join(f"{name} {value}" for name, value in row["metrics"].items())
        print(f"\n{row['file']} ({why})")
        print(f"config   {row['config']}")
        print(f"reported {reported}")
