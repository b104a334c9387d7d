"""Turns a released checkpoint into one that configs here load, checked entry by entry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmquad.backbones import QuadMamba
from mmquad.backbones.quadmamba import QUADMAMBA_ARCHS, QuadMambaArch
from mmquad.checkpoints.families import find_state_dict, quadmamba_arch
from mmquad.checkpoints.files import file_sha256, read_checkpoint
from mmquad.checkpoints.loading import CheckpointMismatchError, load_strict
from mmquad.checkpoints.quadmamba import convert_quadmamba

__all__ = ["Conversion", "convert_quadmamba_file", "convert_quadmamba_weights"]


@dataclass
class Conversion:
    """Converted weights and how well they fit.

    Args:
        state_dict: Weights under ``backbone.`` and ``head.``.
        arch: Name of the architecture, or its fields if no named one has them.
        settings: Settings of the backbone that the weights need to give the outputs they were
            trained for.
        matched: Number of the backbone's entries that are there with the right shape.
        total: Number of the backbone's entries.
        meta: What the written file says of itself.
    """

    state_dict: dict[str, Tensor]
    arch: str | dict[str, Any]
    settings: dict[str, Any]
    matched: int
    total: int
    meta: dict[str, Any] = field(default_factory=dict)


def convert_quadmamba_weights(released: Mapping[str, Tensor]) -> Conversion:
    """Convert released QuadMamba weights: names, shapes, architecture and settings.

    The result has been loaded into the backbone it is for, with every entry in its place.

    Args:
        released: Names and tensors of the release.

    Raises:
        CheckpointMismatchError: Entries are missing, unexpected, of wrong shape or not finite;
            or these are weights of another family of models.
    """
    fields = quadmamba_arch(released)
    not_finite = [
        k for k, v in released.items() if v.is_floating_point() and not v.isfinite().all()
    ]
    if not_finite:
        raise CheckpointMismatchError(
            f"{len(not_finite)} entries hold NaN or infinity, e.g. {not_finite[:3]}: the training "
            "diverged or the file is damaged"
        )
    not_float = [k for k, v in released.items() if not v.is_floating_point()]
    if not_float:
        name = not_float[0]
        dtype = released[name].dtype
        raise CheckpointMismatchError(f"expected floating point weights, got {name} of {dtype}")
    converted = convert_quadmamba(released)
    head = {name: value for name, value in converted.items() if name.startswith("head.")}
    weights = {name: value for name, value in converted.items() if name not in head}

    num_stages = len(fields["depths"])
    # classifiers have the last norm only
    normed = [i for i in range(num_stages) if f"norm{i}.weight" in weights]
    in_channels = (
        released["patch_embed.0.weight"].shape[1] if "patch_embed.0.weight" in released else 3
    )
    backbone = _build(fields, normed or [num_stages - 1], in_channels)
    load_strict(backbone, weights, source="the converted checkpoint")
    _check_head(head, backbone.out_channels[-1])
    return Conversion(
        state_dict={f"backbone.{k}": v for k, v in weights.items()} | head,
        arch=_name(backbone.arch),
        settings=backbone.settings(),
        matched=len(weights),
        total=len(backbone.state_dict()),
    )


def convert_quadmamba_file(
    source: str | Path, target: str | Path, *, key: str | None = None, trust: bool = False
) -> Conversion:
    """Convert a released QuadMamba file into an mmengine checkpoint.

    Args:
        source: The released file: weights, or the dump of a trainer.
        target: The file to write; it appears only when it is complete.
        key: Dotted path to the weights in the file, where it has several sets (``model_ema``).
        trust: See :func:`mmquad.checkpoints.files.read_checkpoint`.

    Raises:
        CheckpointFileError: The file cannot be opened.
        CheckpointMismatchError: It does not hold weights of QuadMamba that fit entirely.
    """
    source, target = Path(source), Path(target)
    content = read_checkpoint(source, trust=trust)
    try:
        conversion = convert_quadmamba_weights(find_state_dict(content, key))
    except CheckpointMismatchError as error:
        raise CheckpointMismatchError(f"{source}: {error}") from error
    conversion.meta = {
        "source": source.name,
        "sha256": file_sha256(source),
        "model": "QuadMamba",
        "arch": conversion.arch,
        "settings": conversion.settings,
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.tmp")
    try:
        # clones: a tensor that is a view would be written with all of its storage
        weights = {k: v.detach().clone().contiguous() for k, v in conversion.state_dict.items()}
        torch.save({"meta": conversion.meta, "state_dict": weights}, draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return conversion


def _build(fields: dict[str, Any], out_indices: list[int], in_channels: int) -> QuadMamba:
    try:
        return QuadMamba(
            fields, out_indices=out_indices, quadtree="released", in_channels=in_channels
        )
    # sizes read from damaged shapes: no such network exists
    except (ValueError, RuntimeError, ZeroDivisionError, IndexError) as error:
        raise CheckpointMismatchError(
            f"the shapes give the impossible architecture {fields}: {error}"
        ) from error


def _check_head(head: Mapping[str, Tensor], channels: int) -> None:
    if not head:
        return
    shapes = {name: tuple(value.shape) for name, value in head.items()}
    weight, bias = shapes.get("head.fc.weight", ()), shapes.get("head.fc.bias", ())
    if set(shapes) != {"head.fc.weight", "head.fc.bias"} or weight != (*bias, channels):
        raise CheckpointMismatchError(
            f"expected classifier.head with weight (classes, {channels}) and bias (classes,), "
            f"got {shapes}"
        )


def _name(arch: QuadMambaArch) -> str | dict[str, Any]:
    return next((name for name, a in QUADMAMBA_ARCHS.items() if a == arch), arch._asdict())
