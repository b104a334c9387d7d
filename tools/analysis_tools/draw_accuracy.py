"""Draw published accuracy over counted FLOPs and measured CPU time, all backbones in one picture.

Accuracies are those of the metafiles beside the configs, and of configs/papers.yml for the
classifiers of others; FLOPs those of docs/comparison.json, which compare_models.py writes; times
those of docs/cpu_times.json:

python -m benchmarks.benchmark_peers --zoo docs/cpu_times.json   # some minutes, on a quiet machine
python tools/analysis_tools/draw_accuracy.py --out docs/images/accuracy.png
"""

import argparse
import json
from pathlib import Path

from mmquad.analysis.accuracy import accuracy_points
from mmquad.analysis.pictures.accuracy import draw_accuracy

ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default="accuracy.png", help="PNG to write")
    parser.add_argument("--times", type=Path, default=ROOT / "docs" / "cpu_times.json")
    args = parser.parse_args()
    times = json.loads(args.times.read_text())
    counts = json.loads((ROOT / "docs" / "comparison.json").read_text())
    points = accuracy_points(ROOT, counts, times["ms"])
    caption = (
        f"Accuracies as published, not measured here. FLOPs counted. Times: medians of one image, "
        f"float32, {times['machine']}, {times['date']}."
    )
    print(draw_accuracy(points, args.out, caption))


if __name__ == "__main__":
    main()
