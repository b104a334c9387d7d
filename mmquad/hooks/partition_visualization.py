"""Writes partition maps of validation images through mmengine's Visualizer."""

import contextlib
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from mmquad.analysis.pictures.model_images import input_to_image
from mmquad.analysis.pictures.partition_maps import (
    Partition,
    draw_partition_sheet,
    record_partitions,
)
from mmquad.registry import HOOKS

__all__ = ["PartitionVisualizationHook"]


@HOOKS.register_module()
class PartitionVisualizationHook(Hook):
    """Draw how the quadtree blocks read the first validation images, at every validation.

    The pictures go where the config's visualizer writes: ``vis_data/vis_image`` of the work dir,
    TensorBoard, Weights & Biases. Their steps are the iterations trained so far, so a backend shows
    how partitions change over a training. Works for any model whose ``backbone`` holds quadtree
    blocks, in mmdet, mmseg and mmpretrain.

    Args:
        images: How many images, from the beginning of the validation set.
        interval: Every how many validations.
        panel_side: Longer side of a panel in pixels.
    """

    # before hooks that draw predictions, which may change what they are given
    priority = "ABOVE_NORMAL"

    def __init__(self, images: int = 4, interval: int = 1, panel_side: int = 200) -> None:
        if images < 1 or interval < 1:
            raise ValueError(f"images and interval must be at least 1, got {images=}, {interval=}")
        self.images = images
        self.interval = interval
        self.panel_side = panel_side
        self._validations = 0
        self._drawn = 0
        self._context = contextlib.ExitStack()
        self._records: list[list[Partition]] = []
        self._inputs: list[Tensor] = []

    def before_val_epoch(self, runner: Runner) -> None:
        """Count validations; draw in every ``interval``-th, beginning with the first."""
        wanted = is_main_process() and self._validations % self.interval == 0
        self._drawn = 0 if wanted else self.images
        self._validations += 1

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Watch the blocks during this iteration, if images are still to be drawn."""
        if self._drawn >= self.images:
            return
        backbone = _model(runner).backbone
        self._context = contextlib.ExitStack()
        self._records = self._context.enter_context(record_partitions(backbone))
        self._inputs = []
        handle = backbone.register_forward_pre_hook(lambda _, args: self._inputs.append(args[0]))
        self._context.callback(handle.remove)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Draw and write what was seen."""
        self._context.close()
        if self._drawn >= self.images or not self._inputs:
            return
        inputs = self._inputs[0]
        # Sliding windows and test-time augmentation run the backbone again: the first run counts.
        blocks = self._records[: len(self._records) // len(self._inputs)]
        for image, partitions in zip(inputs, zip(*blocks, strict=True), strict=True):
            if self._drawn == self.images:
                break
            picture = input_to_image(image, getattr(_model(runner), "data_preprocessor", None))
            sheet = draw_partition_sheet(picture, partitions, self.panel_side)
            runner.visualizer.add_image(f"partitions_{self._drawn}", sheet, step=runner.iter)
            self._drawn += 1
        self._inputs = []


def _model(runner: Runner) -> Any:
    model = runner.model
    while is_model_wrapper(model):
        model = model.module
    return model
