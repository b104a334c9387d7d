"""The contract all backbones of this package keep."""

import re
import sys
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mmquad.backbones.arguments import resolve_out_indices
from mmquad.backbones.costs import announce_costs
from mmquad.backbones.pretrained import PretrainedBackbone
from mmquad.compat import register_loaders
from mmquad.layers import LayerNorm

__all__ = ["VisionBackbone", "init_linear"]


class VisionBackbone(PretrainedBackbone):
    """Image ``[B, c, H, W]`` to a tuple of contiguous ``[B, C_i, H_i, W_i]``, one per out index.

    The constructor of a family calls this one with the sizes of its architecture, sets what its
    ``make_`` methods read, and ends with ``self.build()``, which calls them: ``stem``, ``stages``,
    perhaps ``downsamples`` (stage i > 0 is entered through ``downsamples[i - 1]``) and one
    ``norm{i}`` per out index are made only as far as the last out index needs them, so that every
    parameter takes part in the output.

    To change a part of a family, subclass it and override the method that makes the part::

        @MODELS.register_module()
        class QuadMambaRMS(QuadMamba):
            def make_norm(self, dim):
                return RMSNorm(dim)

    A subclass with arguments of its own sets them before it calls the constructor of the family.

    Args:
        dims: Channels of all stages of the architecture.
        depths: Blocks of all stages.

    The arguments by keyword are those of :class:`BackboneArguments`.

    Raises:
        ValueError: ``out_indices`` or ``frozen_stages`` name stages that do not exist.
    """

    init_cfg: dict | list[dict] | None
    stem: nn.Module
    stages: nn.ModuleList
    downsamples: nn.ModuleList

    def __init__(
        self,
        dims: Sequence[int],
        depths: Sequence[int],
        *,
        in_channels: int = 3,
        out_indices: int | Sequence[int] | None = None,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        announce_costs()
        if "mmengine.runner" in sys.modules:  # whoever runs the stock loops may name hf:// in them
            register_loaders()
        self.dims, self.depths = tuple(dims), tuple(depths)
        self.num_stages = stages = len(self.dims)
        self.in_channels = in_channels
        if out_indices is None:
            out_indices = self.default_out_indices
        self.out_indices = resolve_out_indices(out_indices, stages)
        self.out_channels = tuple(self.dims[i] for i in self.out_indices)
        self.drop_path_rate = drop_path_rate
        if not -1 <= frozen_stages <= stages:
            raise ValueError(f"frozen_stages must be in [-1, {stages}], got {frozen_stages}")
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp

    @property
    def default_out_indices(self) -> Sequence[int]:
        """What ``out_indices`` are unless given: all."""
        return range(self.num_stages)

    @property
    def num_built_stages(self) -> int:
        """Stages the last out index needs."""
        return max(self.out_indices) + 1

    def build(self) -> None:
        """Make all modules and give them their initial values."""
        # One rate for every block of the architecture, also of stages that are not built. On the
        # CPU: under ``torch.device('meta')`` there would be no numbers to read.
        rates = torch.linspace(0, self.drop_path_rate, sum(self.depths), device="cpu").tolist()
        self.build_embedding()
        self.stages, self.downsamples = nn.ModuleList(), nn.ModuleList()
        for i in range(self.num_built_stages):
            if i > 0 and (downsample := self.make_downsample(i)) is not None:
                self.downsamples.append(downsample)
            first = sum(self.depths[:i])
            self.stages.append(self.make_stage(i, rates[first : first + self.depths[i]]))
            if i in self.out_indices:
                self.add_module(f"norm{i}", self.make_output_norm(i))
        self.build_rest()
        self.apply(self.init_module)
        self._freeze()

    def build_embedding(self) -> None:
        """Make what comes before the stages."""
        self.stem = self.make_stem()

    def build_rest(self) -> None:
        """Make what is neither embedding nor stage; nothing here."""

    def make_stem(self) -> nn.Module:
        """Image ``[B, c, H, W]`` to the map the first stage takes, ``[B, h, w, C]``."""
        raise NotImplementedError

    def make_downsample(self, stage: int) -> nn.Module | None:
        """What leads into ``stage`` > 0, from the channels of the stage before; None: nothing."""
        raise NotImplementedError

    def make_stage(self, stage: int, drop_paths: Sequence[float]) -> nn.Module:
        """The blocks of ``stage``, one for each drop path rate."""
        raise NotImplementedError

    def make_mlp(self, dim: int) -> nn.Module | None:
        """The MLP of a block of ``dim`` channels; None: blocks without one."""
        del dim
        return None

    def make_norm(self, dim: int) -> nn.Module:
        """A norm of the last axis, ``dim`` channels: before every branch, and of the outputs."""
        return LayerNorm(dim)

    def make_output_norm(self, stage: int) -> nn.Module:
        """The norm of the features of ``stage``."""
        return self.make_norm(self.dims[stage])

    def init_module(self, module: nn.Module) -> None:
        """Initial values beyond those a layer gives itself; called with every module."""
        init_linear(module)

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
        blocks_before = [0, *accumulate(self.depths[: self.num_built_stages])]
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

    def embedding_parts(self) -> list[nn.Module]:
        """What comes before the first stage, frozen by ``frozen_stages=0``."""
        return [self.stem]

    def stage_parts(self, stage: int) -> list[nn.Module]:
        """What ``frozen_stages=n`` freezes of each of the first n stages: all that is theirs."""
        norm = getattr(self, f"norm{stage}", None)
        downsample = self.downsamples[max(stage - 1, 0) : stage]
        return [self.stages[stage], *downsample, *([] if norm is None else [norm])]

    def tolerated_entries(self) -> dict[str, list[str]]:
        """Prefixes of the entries that other models of the architecture lack, and have besides."""
        built, stages = self.num_built_stages, self.num_stages
        return {
            "may_miss": [f"norm{i}." for i in self.out_indices if i < stages - 1],
            "may_ignore": [f"norm{i}." for i in range(stages) if i not in self.out_indices]
            + [f"stages.{i}." for i in range(built, stages)]
            + [f"downsamples.{i}." for i in range(built - 1, stages - 1)],
        }

    def run_block(self, block: nn.Module, *inputs: Any) -> Any:
        """``block(*inputs)``, its activations recomputed in backward under ``with_cp``."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)

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
            parts.extend(self.stage_parts(i))
        for part in parts:
            part.eval()
            part.requires_grad_(False)


def init_linear(module: nn.Module) -> None:
    """Initialise a linear layer as vision transformers do; for ``nn.Module.apply``."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
