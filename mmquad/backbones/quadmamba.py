"""QuadMamba: learning quadtree-based selective scan for visual state space models.

Paper: Xie, Zhang, Wang, Ma, NeurIPS 2024, arXiv:2410.06806.
Release: VISION-SJTU/QuadMamba, commit 720ecc3. Its behaviour is ``quadtree='released'``; the
default follows the paper's text where the two differ (docs/fidelity.md lists how).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mmquad.backbones.base import named_setting
from mmquad.backbones.hierarchical import HierarchicalBackbone
from mmquad.layers import ConvDownsample, ConvStem, MixerBlock, QuadMixer, ScanMixer
from mmquad.registry import MODELS
from mmquad.scans import CrossScan, LocalScan, QuadScan
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
        fixed_window: Not a quadtree but fixed windows of this many tokens a side, read row by row
            and visited in raster order, forwards and backwards (K = 2 as a quadtree has); 0: no
            windows, rows only. Nothing is learned, shifted, or affected by the other settings.
    """

    nested: bool = True
    use_context: bool = True
    scores_follow_shift: bool = True
    shift_by_height: bool = False
    shifts: tuple[tuple[int, int], ...] = SHIFT_CYCLE
    coarse_level: int = 1
    levels: int = 2
    top_k: int = 1
    fixed_window: int | None = None


QUADTREES = {
    "paper": Quadtree(),
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
        in_channels: Channels of the image.
        out_indices: See :class:`VisionBackbone`.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0.
        quadtree: ``'paper'``, ``'released'`` (for weights trained with the authors' code), or a
            mapping with the fields of :class:`Quadtree`.
        frozen_stages: See :class:`VisionBackbone`.
        norm_eval: See :class:`VisionBackbone`.
        with_cp: See :class:`VisionBackbone`.
        init_cfg: See :class:`VisionBackbone`.

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
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        quadtree: str | Mapping = "paper",
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        size = named_setting("arch", arch, QUADMAMBA_ARCHS, QuadMambaArch)
        tree = _checked(named_setting("quadtree", quadtree, QUADTREES, Quadtree))
        dims = [size.dim * 2**i for i in range(len(size.depths))]
        shifts = _shifts(size, tree.shifts)

        def block(i: int, j: int, drop_path: float) -> MixerBlock:
            shift = shifts[i][j] if i in size.quad_stages else None
            mixer = _mixer(dims[i], size, tree, shift)
            return MixerBlock(dims[i], mixer, size.mlp_ratio, drop_path)

        super().__init__(
            stem=ConvStem(in_channels, size.dim),
            block=block,
            downsample=ConvDownsample,
            dims=dims,
            depths=size.depths,
            drop_path_rate=drop_path_rate,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        self.arch, self.quadtree = size, tree

    def settings(self) -> dict[str, Any]:
        """The quadtree: its name, or its fields if it has none."""
        tree = self.quadtree
        return {"quadtree": next((k for k, v in QUADTREES.items() if v == tree), tree._asdict())}


def _checked(tree: Quadtree) -> Quadtree:
    """The same, with shifts as tuples also if a config gave lists.

    Raises:
        ValueError: Shifts are no signs, or settings contradict each other.
    """
    shifts = [tuple(shift) for shift in tree.shifts]
    if not shifts or any(len(s) != 2 or not set(s) <= {-1, 0, 1} for s in shifts):
        raise ValueError(
            "quadtree.shifts must be pairs of -1, 0 and 1, at least one, such as ((1, 1),), or "
            f"((0, 0),) for no shift; got {shifts}"
        )
    tree = tree._replace(shifts=tuple((down, right) for down, right in shifts))
    if tree.fixed_window is not None:
        others = [
            name
            for name, default in Quadtree._field_defaults.items()
            if name != "fixed_window" and getattr(tree, name) != default
        ]
        if tree.fixed_window < 0 or others:
            raise ValueError(
                "quadtree.fixed_window must be a side of at least 0 tokens, without other settings;"
                f" got {tree.fixed_window} and {others}"
            )
    return tree


def _shifts(size: QuadMambaArch, cycle: tuple[tuple[int, int], ...]) -> list[list[tuple[int, int]]]:
    """Shift signs of every block: each second block of a stage, cycling over the whole network."""
    shifts, before = [], 0
    for depth in size.depths:
        shifts.append(
            [cycle[(before + j) // 2 % len(cycle)] if j % 2 else (0, 0) for j in range(depth)]
        )
        before += depth
    return shifts


def _mixer(
    dim: int, size: QuadMambaArch, tree: Quadtree, shift: tuple[int, int] | None
) -> ScanMixer:
    sizes = (dim, int(dim * size.ssm_ratio), size.d_state, -(-dim // 16))
    if shift is None:
        return ScanMixer(*sizes, CrossScan(), conv_bias=size.conv_bias)
    if tree.fixed_window is not None:
        window = f"w{tree.fixed_window}" if tree.fixed_window else "h"
        fixed = LocalScan((window, f"{window}_flip"), padded=False)
        return ScanMixer(*sizes, fixed, conv_bias=size.conv_bias)
    scan = QuadScan(
        shift=shift,
        nested=tree.nested,
        scores_follow_shift=tree.scores_follow_shift,
        shift_by_height=tree.shift_by_height,
        coarse_level=tree.coarse_level,
        levels=tree.levels,
    )
    return QuadMixer(*sizes, scan, tree.use_context, tree.top_k, conv_bias=size.conv_bias)
