"""Keeps the record of a direction search."""

import json
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.runner import Runner

from mmquad.hooks.atomic_files import write_atomically
from mmquad.registry import HOOKS
from mmquad.search import search_layers

__all__ = ["DirectionLogHook"]


@HOOKS.register_module()
class DirectionLogHook(Hook):
    """Writes the weights of a search network's directions to ``<work_dir>/directions.jsonl``.

    One JSON object per line: ``iteration``, ``directions`` (names) and ``alpha``, a row of weights
    before the softmax per layer. The weights are parameters of the network, so a resumed search
    goes on where its checkpoint left; what was logged after that checkpoint is removed. Read it
    with :func:`mmquad.search.read_direction_log`, or tools/misc/export_directions.py.

    Args:
        interval: Iterations between two records; the first and the last are written always.
    """

    priority = "LOW"

    def __init__(self, interval: int = 200) -> None:
        if interval < 1:
            raise ValueError(f"interval must be at least 1, got {interval}")
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Keep the records of the part of the search that is not repeated, and write the first."""
        if not is_main_process():
            return
        self._path = Path(runner.work_dir) / "directions.jsonl"
        kept = []
        if runner.iter > 0 and self._path.is_file():
            for line in self._path.read_text().splitlines():
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:
                    break  # a killed run may leave half a line
                if record["iteration"] < runner.iter:
                    kept.append(line + "\n")
        write_atomically(self._path, "".join(kept).encode())
        self._record(runner, runner.iter)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: DATA_BATCH = None,
        outputs: dict | None = None,
    ) -> None:
        """Write a record every ``interval`` iterations."""
        done = runner.iter + 1
        if is_main_process() and (done % self.interval == 0 or done == runner.max_iters):
            self._record(runner, done)

    def _record(self, runner: Runner, iteration: int) -> None:
        layers = search_layers(runner.model)
        candidates = {layer.directions for layer in layers}
        if len(candidates) != 1:
            raise ValueError(f"expected the same candidates in all layers, got {candidates}")
        record = {
            "iteration": iteration,
            "directions": layers[0].directions,
            "alpha": [[round(a, 6) for a in layer.alpha.tolist()] for layer in layers],
        }
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")
