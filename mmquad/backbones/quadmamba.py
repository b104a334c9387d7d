"""QuadMamba: learning quadtree-based selective scan for visual state space models.

Paper: Xie, Zhang, Wang, Ma, NeurIPS 2024, arXiv:2410.06806.
Release: VISION-SJTU/QuadMamba, commit 720ecc3. Its behaviour is ``quadtree='released'``; the
default follows the paper's text where the two differ (docs/fidelity.md lists how).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn
from typing_extensions import Unpack

from mmquad.backbones.arguments import BackboneArguments, named_setting
from mmquad.backbones.hierarchical import HierarchicalBackbone
from mmquad.layers import MLP, ConvDownsample, ConvStem, QuadMixer, ScanMixer
from mmquad.registry import MODELS
from mmquad.scans import CrossScan, QuadScan
from mmquad.scans.quad import SHIFT_CYCLE

__all__ = ["QUADMAMBA_ARCHS", "QUADTREES", "QuadMamba", "QuadMambaArch", "Quadtree"]


class QuadMambaArch(NamedTuple):
    """Size of a QuadMamba (Table 7). Width doubles per stage.

    Attributes:
        dim: Channels C of the first stage.
        depths: Blocks per stage.
        ssm_ratio: Inner channels D of a mixer over C.
        quad_stages: Stages whose blocks use the quadtree scan; the others use the cross scan.
        d_state: States N per channel.
        mlp_ratio: Hidden width of the MLP over C; 0 for blocks without MLP.
        conv_bias: The depthwise convolutions have a bias.
    """

    dim: int
    depths: tuple[int, ...]
    ssm_ratio: float
    quad_stages: tuple[int, ...] = (0, 1)
    d_state: int = 1
    mlp_ratio: float = 4.0
    conv_bias: bool = False


QUADMAMBA_ARCHS = {
    "lite": QuadMambaArch(48, (2, 2, 2, 2), ssm_ratio=1),
    "lite-r2": QuadMambaArch(48, (2, 2, 2, 2), ssm_ratio=2),
    "tiny": QuadMambaArch(64, (2, 6, 2, 2), ssm_ratio=1),
    "small": QuadMambaArch(96, (2, 2, 5, 2), ssm_ratio=2),
    "base": QuadMambaArch(96, (2, 2, 15, 2), ssm_ratio=2),
}


class Quadtree(NamedTuple):
    """How the quadtree stages read their maps; docs/ablations.md has a config for each.

    Attributes:
        nested: Fine windows stay inside their coarse one, as in the paper's text.
        use_context: The score predictor sees the averages of the windows (eq. 5-6).
        scores_follow_shift: Scores are averaged over the windows of the shifted map.
        shift_by_height: Both roll amounts come from the map's height.
        shifts: Signs of the roll (rows, columns) of every second block of a stage, in turn over the
            whole network; ``((0, 0),)`` for no shift at all.
        coarse_level: Coarse windows are the map halved this often, fine ones once more.
        levels: 2, or 3 for a choice inside the chosen window; see :class:`mmquad.scans.QuadScan`.
        top_k: Coarse windows to choose.
    """

    nested: bool = True
    use_context: bool = True
    scores_follow_shift: bool = True
    shift_by_height: bool = False
    shifts: tuple[tuple[int, int], ...] = SHIFT_CYCLE
    coarse_level: int = 1
    levels: int = 2
    top_k: int = 1


QUADTREES = {
    "paper": Quadtree(),
    # Weights trained with the authors' code give their outputs with all four of these only.
    "released": Quadtree(
        nested=False, use_context=False, scores_follow_shift=False, shift_by_height=True
    ),
}


@MODELS.register_module()
class QuadMamba(HierarchicalBackbone):
    """Four stages at strides 4, 8, 16, 32; quadtree scans in the first two, cross scans after.

    Every image size from 1 x 1 up works; maps have ``ceil(H / 4), ceil(H / 8), ...`` rows.
    Evaluation is deterministic.

    Args:
        arch: ``'lite'``, ``'lite-r2'``, ``'tiny'``, ``'small'``, ``'base'``, or a mapping with the
            fields of :class:`QuadMambaArch`.
        quadtree: ``'paper'``, ``'released'`` (for weights trained with the authors' code), or a
            mapping with the fields of :class:`Quadtree`.
        **arguments: Those of every backbone: :class:`mmquad.backbones.BackboneArguments`.

    Example:
        >>> import torch
        >>> from mmquad.backbones import QuadMamba
        >>> model = QuadMamba("lite").eval()
        >>> [tuple(y.shape) for y in model(torch.randn(1, 3, 65, 97))]
        [(1, 48, 17, 25), (1, 96, 9, 13), (1, 192, 5, 7), (1, 384, 3, 4)]
    """

    def __init__(
        self,
        arch: str | Mapping = "tiny",
        *,
        quadtree: str | Mapping = "paper",
        **arguments: Unpack[BackboneArguments],
    ) -> None:
        size = named_setting("arch", arch, QUADMAMBA_ARCHS, QuadMambaArch)
        super().__init__(size.dim, size.depths, **arguments)
        self.arch: QuadMambaArch = size
        self.quadtree: Quadtree = _checked(named_setting("quadtree", quadtree, QUADTREES, Quadtree))
        self.build()

    def make_stem(self) -> nn.Module:
        return ConvStem(self.in_channels, self.dims[0])

    def make_downsample(self, stage: int) -> nn.Module:
        return ConvDownsample(self.dims[stage - 1], self.dims[stage])

    def make_mlp(self, dim: int) -> nn.Module | None:
        return MLP(dim, int(dim * self.arch.mlp_ratio)) if self.arch.mlp_ratio else None

    def make_mixer(self, stage: int, index: int) -> nn.Module:
        dim, arch, tree = self.dims[stage], self.arch, self.quadtree
        inner_dim = int(dim * arch.ssm_ratio)
        # The late stages of all published models choose nothing and read in four directions.
        if stage not in arch.quad_stages:
            return ScanMixer(dim, inner_dim, arch.d_state, CrossScan(), conv_bias=arch.conv_bias)
        scan = QuadScan(
            shift=self.shift(stage, index),
            nested=tree.nested,
            scores_follow_shift=tree.scores_follow_shift,
            shift_by_height=tree.shift_by_height,
            coarse_level=tree.coarse_level,
            levels=tree.levels,
        )
        return QuadMixer(
            dim,
            inner_dim,
            arch.d_state,
            scan,
            use_context=tree.use_context,
            top_k=tree.top_k,
            conv_bias=arch.conv_bias,
        )

    def shift(self, stage: int, index: int) -> tuple[int, int]:
        """Signs of the roll in a block: each second one of a stage, cycling over the network."""
        if index % 2 == 0:
            return (0, 0)
        # Counted over all blocks, so that a stage goes on where the one before it left off.
        block = sum(self.depths[:stage]) + index
        return self.quadtree.shifts[block // 2 % len(self.quadtree.shifts)]

    def settings(self) -> dict[str, Any]:
        """The quadtree: its name, or its fields if it has none."""
        tree = self.quadtree
        return {"quadtree": next((k for k, v in QUADTREES.items() if v == tree), tree._asdict())}


def _checked(tree: Quadtree) -> Quadtree:
    """The same, with shifts as tuples also if a config gave lists.

    Raises:
        ValueError: Shifts are no signs.
    """
    shifts = [tuple(shift) for shift in tree.shifts]
    if not shifts or any(len(s) != 2 or not set(s) <= {-1, 0, 1} for s in shifts):
        raise ValueError(
            "quadtree.shifts must be pairs of -1, 0 and 1, at least one, such as ((1, 1),), or "
            f"((0, 0),) for no shift; got {shifts}"
        )
    return tree._replace(shifts=tuple((down, right) for down, right in shifts))
