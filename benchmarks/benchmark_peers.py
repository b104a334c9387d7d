"""Time backbones of this package as ratios of Swin-T's time; print a Markdown table.

QuadMamba-T and -S, VMamba-T and LocalVMamba-T beside Swin-T and ConvNeXt-T, on a CPU: inference in
float32, under bfloat16 autocast and compiled, and training steps, one and eight images of 224 x
224. All backbones are timed in turn, mode by mode. The times go to peers.json.

--zoo FILE times all backbones of all families and controls instead, one image of 224 x 224 and of
512 x 512, for the plot of tools/analysis_tools/draw_accuracy.py.
"""

import argparse
import datetime
import json
import logging
from pathlib import Path

import torch

from benchmarks.options import add_timing_options, place_of
from benchmarks.peers import MODES, PEERS, all_names, measure_peers, peers_table
from mmquad.analysis.controls import CONTROLS
from mmquad.releases.known import RELEASES

ZOO_SIZES = (224, 512)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_timing_options(parser, repetitions=7)
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--models", nargs="+", default=PEERS, metavar="NAME", help="Swin-T too")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--zoo", type=Path, metavar="FILE", help="see above")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)  # timm's wrapper prints what its networks have
    place = place_of(arguments)
    print(place.description + "\n")
    if arguments.zoo:
        arguments.zoo.write_text(json.dumps(zoo_times(arguments, place.description), indent=1))
        print(arguments.zoo)
        return
    cells = [(mode, batch) for mode in arguments.modes for batch in arguments.batches]
    seconds = arguments.seconds / len(cells)
    results = {
        (mode, batch): measure_peers(
            arguments.models, mode, batch, arguments.size, arguments.repetitions, seconds
        )
        for mode, batch in cells
    }
    print(peers_table(results))
    arguments.output.mkdir(parents=True, exist_ok=True)
    written = [{"mode": m, "batch": b, "ms": times} for (m, b), times in results.items()]
    (arguments.output / "peers.json").write_text(json.dumps(written, indent=1) + "\n")


def zoo_times(arguments: argparse.Namespace, description: str) -> dict:
    """Milliseconds by size and name, with the date and the machine."""
    archs = {release.backbone.__name__: release.archs for release in RELEASES.values()}
    skipped = {"RegNetY-4G", "RegNetY-8G", "RegNetY-16G"}  # classifiers only
    names = all_names(archs, [name for name in CONTROLS.values() if name not in skipped])
    times: dict[str, dict[str, float]] = {}
    for size in ZOO_SIZES:
        times[str(size)] = {}
        # A dozen at a time: all at once would not fit into the memory of every machine.
        for i in range(0, len(names), 12):
            group = names[i : i + 12]
            times[str(size)] |= measure_peers(group, "float32", 1, size, arguments.repetitions)
    return {
        "date": datetime.date.today().isoformat(),
        "machine": description,
        "torch": torch.__version__,
        "ms": times,
    }


if __name__ == "__main__":
    main()
