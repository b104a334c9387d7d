"""The contract all backbones of this package keep."""

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mmquad.checkpoints.download import read_checkpoint_from
from mmquad.checkpoints.loading import check_settings, extract_state_dict, load_strict, take_prefix
from mmquad.compat import runner_checkpoint_globals

__all__ = ["VisionBackbone", "init_linear", "named_setting", "resolve_out_indices"]


class VisionBackbone(BaseModule):
    """Image ``[B, 3, H, W]`` to a tuple of contiguous ``[B, C_i, H_i, W_i]``, one per out index.

    A subclass builds ``stem``, ``stages``, perhaps ``downsamples`` (stage i > 0 is entered through
    ``downsamples[i - 1]``), and one ``norm{i}`` per out index, only as far as the last out index
    needs them: every parameter takes part in the output. It ends its constructor with
    ``self._freeze()``.

    Args:
        stage_channels: Channels of all stages of the architecture.
        stage_depths: Blocks of all stages.
        out_indices: Stages whose features are returned; negative ones count from the last.
        frozen_stages: -1: nothing; 0: the stem; n: the stem and the first n stages (with the
            downsampling into them and their output norms) are in eval mode and have no gradient.
        norm_eval: Keep batch norms in eval mode while training.
        with_cp: Recompute blocks in the backward pass instead of keeping their activations.
        init_cfg: mmengine's. With ``type='Pretrained'`` the weights must fit entirely: only
            ``norm{i}`` of intermediate stages may be missing, since classifiers have none. A file
            that says which settings its weights need (:mod:`mmquad.releases.convert` writes it)
            must agree with :meth:`settings`, unless ``ignore_settings=True`` is given too.
    """

    init_cfg: dict | list[dict] | None
    stem: nn.Module
    stages: nn.ModuleList
    downsamples: nn.ModuleList

    def __init__(
        self,
        stage_channels: Sequence[int],
        stage_depths: Sequence[int],
        out_indices: Sequence[int],
        frozen_stages: int,
        norm_eval: bool,
        with_cp: bool,
        init_cfg: dict | list[dict] | None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_stages = stages = len(stage_channels)
        self.out_indices = resolve_out_indices(out_indices, stages)
        self.out_channels = tuple(stage_channels[i] for i in self.out_indices)
        if not -1 <= frozen_stages <= stages:
            raise ValueError(f"frozen_stages must be in [-1, {stages}], got {frozen_stages}")
        self.depths = tuple(stage_depths[: self.num_built_stages])
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp

    @property
    def num_built_stages(self) -> int:
        """Stages the last out index needs."""
        return max(self.out_indices) + 1

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """How deep in the network a parameter is, for learning rates that fall layer by layer.

        As the backbones of mmpretrain define it: what comes before the first block has depth 0, the
        n blocks of all stages have 1, 2, ..., n, what comes after the backbone has n + 1. A
        downsampling has the depth of the block after it, an output norm that of the block before.

        Args:
            param_name: Name of the parameter in the model.
            prefix: What the names of the backbone's own parameters start with, ``'backbone.'``.

        Returns:
            The depth, and the number of depths n + 2.
        """
        blocks_before = [0, *accumulate(self.depths)]
        blocks = blocks_before[-1]
        if not param_name.startswith(prefix):
            return blocks + 1, blocks + 2
        name = param_name.removeprefix(prefix)
        part = re.match(r"(stages\.|downsamples\.|norm)(\d+)\.(\d+)?", name)
        if part is None:
            return 0, blocks + 2
        i = int(part[2])
        if part[1] == "norm":
            return blocks_before[i + 1], blocks + 2
        if part[1] == "downsamples.":
            return blocks_before[i + 1] + 1, blocks + 2
        # A stage of one block may be that block itself; then a number is of one of its parts.
        index = int(part[3]) if self.depths[i] > 1 else 0
        return blocks_before[i] + 1 + index, blocks + 2

    def settings(self) -> dict[str, Any]:
        """Arguments that change the outputs of given weights but the shape of none."""
        return {}

    def embedding_parts(self) -> list[nn.Module]:
        """What comes before the first stage, frozen by ``frozen_stages=0``."""
        return [self.stem]

    def adapt_pretrained(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a checkpoint as this model's sizes need them, before the strict comparison."""
        return dict(state_dict)

    def tolerated_entries(self) -> dict[str, list[str]]:
        """Prefixes of the entries that other models of the architecture lack, and have besides."""
        built, stages = self.num_built_stages, self.num_stages
        return {
            "may_miss": [f"norm{i}." for i in self.out_indices if i < stages - 1],
            "may_ignore": [f"norm{i}." for i in range(stages) if i not in self.out_indices]
            + [f"stages.{i}." for i in range(built, stages)]
            + [f"downsamples.{i}." for i in range(built - 1, stages)],
        }

    def run_block(self, block: nn.Module, *inputs: Any) -> Any:
        """``block(*inputs)``, its activations recomputed in backward under ``with_cp``."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)

    def init_weights(self) -> None:
        """Initialise by ``init_cfg``; last, strictly, a checkpoint (``type='Pretrained'``).

        Raises:
            CheckpointMismatchError: The checkpoint does not fit; none of it has been loaded.
        """
        init_cfg = self.init_cfg
        configs = init_cfg if isinstance(init_cfg, list) else [init_cfg] if init_cfg else []
        self.init_cfg = [config for config in configs if config["type"] != "Pretrained"] or None
        try:
            super().init_weights()
        finally:
            self.init_cfg = init_cfg
        for config in configs:
            if config["type"] == "Pretrained":
                self._load_pretrained(**{k: v for k, v in config.items() if k != "type"})

    def _load_pretrained(
        self,
        checkpoint: str,
        prefix: str | None = None,
        map_location: str = "cpu",
        ignore_settings: bool = False,
    ) -> None:
        del map_location  # of mmengine's; read on the CPU, weights are copied to where the model is
        loaded = read_checkpoint_from(checkpoint, allowed=runner_checkpoint_globals())
        if not ignore_settings:
            check_settings(loaded, self.settings(), source=checkpoint)
        weights = self.adapt_pretrained(take_prefix(extract_state_dict(loaded), prefix))
        load_strict(self, weights, source=checkpoint, **self.tolerated_entries())
        # mmengine's own report of init_weights is made before this and calls nothing changed
        print_log(f"All weights of {type(self).__name__} are from {checkpoint}.", "current")

    def train(self, mode: bool = True) -> "VisionBackbone":
        """Switch mode, keeping frozen stages (and with ``norm_eval`` batch norms) in eval mode."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        parts = self.embedding_parts()
        for i in range(min(self.frozen_stages, self.num_built_stages)):
            parts.append(self.stages[i])
            parts.extend(self.downsamples[max(i - 1, 0) : i])
            if i in self.out_indices:
                parts.append(getattr(self, f"norm{i}"))
        for part in parts:
            part.eval()
            part.requires_grad_(False)


def resolve_out_indices(out_indices: Sequence[int], stages: int) -> tuple[int, ...]:
    """Ascending, non-negative stage indices.

    Raises:
        ValueError: An index is out of range or occurs twice, or there is none.
    """
    if isinstance(out_indices, int):
        out_indices = (out_indices,)
    resolved = [i + stages if i < 0 else i for i in out_indices]
    ascending = sorted(set(resolved)) == resolved
    if not resolved or not ascending or not all(0 <= i < stages for i in resolved):
        raise ValueError(
            f"out_indices must name stages in [-{stages}, {stages - 1}], ascending and distinct, "
            f"got {tuple(out_indices)}"
        )
    return tuple(resolved)


def init_linear(module: nn.Module) -> None:
    """Initialise a linear layer as vision transformers do; for ``nn.Module.apply``."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def named_setting(name: str, value: str | Mapping, named: Mapping[str, Any], kind: Any) -> Any:
    """The setting called ``value``, or one made of the fields of the mapping ``value``.

    Args:
        name: Of the argument, for the message.
        value: A key of ``named``, or fields of ``kind``.
        named: Settings by name.
        kind: Their NamedTuple.

    Raises:
        ValueError: There is no such name or field.
    """
    if isinstance(value, str):
        if value not in named:
            raise ValueError(f"{name} must be one of {list(named)} or a mapping, got {value!r}")
        return named[value]
    unknown = set(value) - set(kind._fields)
    if unknown:
        raise ValueError(f"{name} has unknown fields {sorted(unknown)}; known: {kind._fields}")
    return kind(**value)
