"""A scan layer as the published code computes it, for comparison: every step a tensor of its own.

Follows the pipelines of QuadMamba's release (commit 720ecc3) and of the others, channels first:
roll, multiply by masks, pad, permute and copy, add, flip, stack, project, widen, scan, flip, add,
permute back, multiply by masks, roll back. The order of tokens is this package's, so that results
agree. The scan inside is the fastest one that is plain PyTorch. Nothing uses this module but the
benchmarks.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmquad.layers import AtrousMixer, HalfScanMixer, QuadMixer, ScanMixer, SpatialMixer
from mmquad.layers.local_mixers import LocalMapMixer
from mmquad.layers.selective_ssm import SelectiveSSM
from mmquad.ops import selective_scan
from mmquad.scans import CrossScan, LocalScan, QuadScan, Scan

__all__ = ["unfused", "unfused_scan"]

SCAN = "chunked"


@contextmanager
def unfused(model: nn.Module) -> Iterator[nn.Module]:
    """Compute the scans of ``model`` as published inside a ``with`` block.

    Raises:
        ValueError: The model has neither :class:`mmquad.layers.ScanMixer` nor
            :class:`mmquad.layers.HalfScanMixer`.
    """
    mixers = [m for m in model.modules() if isinstance(m, ScanMixer | HalfScanMixer)]
    if not mixers:
        raise ValueError(f"{type(model).__name__} has no ScanMixer: there is nothing to unfuse")
    for mixer in mixers:
        if isinstance(mixer, ScanMixer):
            mixer.mix = functools.partial(_mix, mixer)  # type: ignore[method-assign]
        else:
            mixer.forward = functools.partial(_half_scan, mixer)  # type: ignore[method-assign]
    try:
        yield model
    finally:
        for mixer in mixers:
            vars(mixer).pop("mix", None), vars(mixer).pop("forward", None)


def _mix(mixer: ScanMixer, x: Tensor) -> Tensor:
    """What :meth:`ScanMixer.mix` computes, ``[B, H, W, D] -> [B, H, W, D]``."""
    if isinstance(mixer, SpatialMixer):
        return _fused_states(mixer, x)
    if isinstance(mixer, AtrousMixer):
        xs = mixer.scan.to_sequences(x).permute(0, 2, 3, 1).contiguous()  # [B, 4, D, P]
        ys = _scan(mixer.ssm, xs, slice(None)).permute(0, 3, 1, 2).contiguous()
        return mixer.scan.to_grid(ys, *x.shape[1:3]).to(x.dtype)
    weight = mixer.selector(x, mixer.scan) if isinstance(mixer, QuadMixer) else None
    if not isinstance(mixer, LocalMapMixer):
        y = unfused_scan(mixer.ssm, x, mixer.scan, weight)
        return y.to(torch.promote_types(x.dtype, y.dtype))
    ys = unfused_scan(mixer.ssm, x, mixer.scan, merge=False)
    return mixer.combine(ys.flatten(2, 3)).unflatten(1, x.shape[1:3])


def _half_scan(mixer: HalfScanMixer, x: Tensor) -> Tensor:
    """MambaVision's mixer as its release computes it, channels first: ``[B, L, C]`` to the same."""
    both = mixer.in_proj(x).transpose(1, 2).contiguous().chunk(2, dim=1)
    weights = mixer.conv_weight[:, None].chunk(2)
    scanned, other = (
        F.silu(F.conv1d(half, weight, padding="same", groups=half.shape[1]))
        for half, weight in zip(both, weights, strict=True)
    )
    ssm = mixer.ssm
    y = _scan(ssm, scanned[:, None], slice(None), bias=ssm.step_bias())[:, 0]
    joined = torch.cat([y.to(other.dtype), other], dim=1)
    return mixer.out_proj(joined.transpose(1, 2).contiguous())


def _fused_states(mixer: SpatialMixer, x: Tensor) -> Tensor:
    """Spatial-Mamba's scan and fusion, channels first, three maps padded for themselves."""
    grid = x.permute(0, 3, 1, 2).contiguous()
    ssm, fusion = mixer.ssm, mixer.fusion
    tokens = grid.flatten(2)
    projected = torch.einsum("bdl,cd->bcl", tokens, ssm.x_proj[0])
    rank, B, C = projected.split([ssm.dt_rank, 1, 1], dim=1)
    states = selective_scan(
        tokens.float(),
        torch.einsum("brl,dr->bdl", rank, ssm.dt_proj[0]).float(),
        ssm.state_matrix()[0],
        B.float(),
        torch.ones_like(B).float(),
        delta_bias=ssm.dt_bias[0].float(),
        delta_softplus=True,
        backend=SCAN,
    )
    assert isinstance(states, Tensor)
    states = states.view(grid.shape)
    fused = torch.zeros_like(states)
    kernels, factors = fusion.weight.float(), fusion.alpha.float()
    for kernel, factor, dilation in zip(kernels, factors, (1, 3, 5), strict=True):
        padded = F.pad(states, (dilation,) * 4, mode="replicate")
        sums = F.conv2d(padded, kernel[:, None], dilation=dilation, groups=grid.shape[1])
        fused = fused + factor * sums
    y = fused * C.view(-1, 1, *grid.shape[2:]) + ssm.D_skip.view(1, -1, 1, 1) * grid
    return y.permute(0, 2, 3, 1).contiguous()


def unfused_scan(
    ssm: SelectiveSSM,
    x: Tensor,
    scan: Scan,
    weight: Tensor | None = None,
    merge: bool = True,
) -> Tensor:
    """One layer, ``[B, H, W, D] -> [B, H, W, D]``, or ``[B, K, H, W, D]`` unmerged.

    Args:
        ssm: The layer's parameters.
        x: The grid.
        scan: A cross, quadtree or local scan.
        weight: For a quadtree, 1 for the chosen window and 0 for the others, ``[B, 4]``.
        merge: Add the directions up.
    """
    grid = x.permute(0, 3, 1, 2).contiguous()  # [B, D, H, W]
    if isinstance(scan, QuadScan):
        assert weight is not None
        y = _quad(ssm, grid, scan, weight)
    elif isinstance(scan, CrossScan):
        y = _cross(ssm, grid)
    elif isinstance(scan, LocalScan) and not scan.class_token:
        ys = _local(ssm, grid, scan)
        if not merge:
            return torch.stack(ys, dim=1).permute(0, 1, 3, 4, 2).contiguous()
        y = functools.reduce(torch.add, ys)
    else:
        raise ValueError(f"there is no unfused form of {scan}: take a cross, quad or local scan")
    return y.permute(0, 2, 3, 1).contiguous()


def _cross(ssm: SelectiveSSM, grid: Tensor) -> Tensor:
    height, width = grid.shape[2:]
    forward = [grid.flatten(2), grid.transpose(2, 3).flatten(2)]
    rows, columns = _both_ways(ssm, forward)
    return rows.unflatten(2, (height, width)) + columns.unflatten(2, (width, height)).mT


def _quad(ssm: SelectiveSSM, grid: Tensor, scan: QuadScan, weight: Tensor) -> Tensor:
    if scan.coarse_level != 1 or scan.levels != 2:
        raise ValueError(f"there is no unfused form of {scan}: take two levels of 2 x 2 windows")
    height, width = grid.shape[2:]
    if height % 4 or width % 4:
        raise ValueError(f"the published partition needs multiples of 4, got {height}x{width}")
    shifts = scan.amounts(height, width)
    if any(shifts):
        grid = grid.roll(shifts, (2, 3))
    mask = weight.view(-1, 1, 2, 1, 2, 1).expand(-1, 1, 2, height // 2, 2, width // 2)
    mask = mask.reshape(-1, 1, height, width)
    coarse, fine = grid * (1 - mask), grid * mask
    xs = _cut(_cut(fine, 2, 2), 2, 2).flatten(2) + _cut(coarse, 2, 2).flatten(2)
    (y,) = _both_ways(ssm, [xs])
    fine = _join(_join(y.unflatten(2, (2, 2, 2, 2, height // 4, width // 4))))
    coarse = _join(y.unflatten(2, (2, 2, height // 2, width // 2)))
    y = mask * fine + (1 - mask) * coarse
    return y.roll([-shift for shift in shifts], (2, 3)) if any(shifts) else y


def _local(ssm: SelectiveSSM, grid: Tensor, scan: LocalScan) -> list[Tensor]:
    """Every direction by itself, as their lengths differ: K times ``[B, D, H, W]``."""
    height, width = grid.shape[2:]
    outputs = []
    for k, name in enumerate(scan.names):
        kind, flipped = name.removesuffix("_flip"), name.endswith("_flip")
        shape: tuple[int, ...]
        if kind == "h":
            sequence, shape = grid.flatten(2), (height, width)
        elif kind == "v":
            sequence, shape = grid.transpose(2, 3).flatten(2), (width, height)
        else:
            side = int(kind[1:])
            padded = F.pad(grid, (0, -width % side, 0, -height % side))
            windows = padded.shape[2] // side, padded.shape[3] // side
            sequence, shape = _cut(padded, *windows).flatten(2), (*windows, side, side)
        one = sequence.flip(-1) if flipped else sequence
        y = _scan(ssm, one[:, None], slice(k, k + 1))[:, 0]
        y = (y.flip(-1) if flipped else y).unflatten(2, shape)
        if kind == "v":
            y = y.mT
        elif kind != "h":
            y = _join(y)[..., :height, :width]
        outputs.append(y)
    return outputs


def _both_ways(ssm: SelectiveSSM, forward: list[Tensor]) -> list[Tensor]:
    """Scan ``K / 2`` sequences ``[B, D, L]`` forwards and backwards, and add the two ways."""
    xs = torch.stack(forward + [sequence.flip(-1) for sequence in forward], dim=1)
    ys = _scan(ssm, xs, slice(None))
    half = len(forward)
    merged = ys[:, :half] + ys[:, half:].flip(-1)
    return list(merged.unbind(1))


def _scan(ssm: SelectiveSSM, xs: Tensor, directions: slice, bias: Tensor | None = None) -> Tensor:
    """Sequences ``[B, K, D, L] -> [B, K, D, L]``, some of the layer's directions."""
    split = [ssm.dt_rank, ssm.d_state, ssm.d_state]
    projected = torch.einsum("bkdl,kcd->bkcl", xs, ssm.x_proj[directions])
    rank, B, C = projected.split(split, dim=2)
    delta = torch.einsum("bkrl,kdr->bkdl", rank, ssm.dt_proj[directions])
    ys = selective_scan(
        xs.flatten(1, 2).float(),
        delta.contiguous().flatten(1, 2).float(),
        -ssm.A_log[directions].float().exp().flatten(0, 1),
        B.contiguous().float(),
        C.contiguous().float(),
        ssm.D_skip[directions].flatten().float(),
        delta_bias=(ssm.dt_bias if bias is None else bias)[directions].flatten().float(),
        delta_softplus=True,
        backend=SCAN,
    )
    assert isinstance(ys, Tensor)
    return ys.unflatten(1, xs.shape[1:3])


def _cut(x: Tensor, rows: int, columns: int) -> Tensor:
    """Windows of the last two axes: ``[..., H, W] -> [..., rows, columns, h, w]``, a view."""
    return x.unflatten(-1, (columns, -1)).unflatten(-3, (rows, -1)).transpose(-3, -2)


def _join(x: Tensor) -> Tensor:
    """The inverse of :func:`_cut`."""
    return x.transpose(-3, -2).flatten(-4, -3).flatten(-2, -1)
