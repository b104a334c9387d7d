"""Turns a released checkpoint into one that configs here load, checked entry by entry."""

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmquad.backbones import VisionBackbone
from mmquad.checkpoints.files import file_sha256, read_checkpoint
from mmquad.checkpoints.loading import CheckpointMismatchError, find_state_dict, load_strict
from mmquad.checkpoints.safetensors_files import write_safetensors
from mmquad.compat import runner_checkpoint_globals
from mmquad.releases.families import split_model
from mmquad.releases.known import Release, release_of
from mmquad.releases.table import Rows, fitting_rows, task_of

__all__ = ["Conversion", "conversion_meta", "convert_file", "convert_weights", "read_release"]


@dataclass
class Conversion:
    """Converted weights and how well they fit.

    Args:
        state_dict: Weights under ``backbone.``, ``head.``, and other parts under their own names.
        model: Name of the backbone's class.
        arch: Name of the architecture, or its fields if no named one has them.
        settings: Settings of the backbone that the weights need to give the outputs they were
            trained for.
        matched: Number of the backbone's entries that are there with the right shape.
        total: Number of the backbone's entries.
        licence: Of the weights, where it restricts what they may be used for.
        meta: What the written file says of itself.
    """

    state_dict: dict[str, Tensor]
    model: str
    arch: str | dict[str, Any]
    settings: dict[str, Any]
    matched: int
    total: int
    licence: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


def convert_weights(released: Mapping[str, Tensor], arch: str | None = None) -> Conversion:
    """Convert released weights: names, shapes, architecture and settings.

    The backbone's part has been loaded into the backbone it is for, with every entry in its place.
    Heads and necks of detectors and segmentors keep their names.

    Args:
        released: Names and tensors of a release of :data:`mmquad.releases.known.RELEASES`.
        arch: Name of the architecture. LocalMamba's weights need it: their shapes do not tell the
            directions. Default: read from the shapes.

    Raises:
        CheckpointMismatchError: Entries are missing, unexpected, of wrong shape or not finite;
            or these are weights of another family of models.
    """
    theirs, rest = split_model(released)
    release = release_of(theirs)
    fields = release.arch_fields(theirs, arch)
    _check_values(theirs | rest)
    converted = release.convert(theirs)
    head = {name: value for name, value in converted.items() if name.startswith("head.")}
    weights = {name: value for name, value in converted.items() if name not in head}

    backbone = _build(release, fields, weights)
    load_strict(backbone, weights, source="the converted checkpoint")
    _check_head(head, backbone.out_channels[-1])
    return Conversion(
        state_dict={f"backbone.{k}": v for k, v in weights.items()} | head | rest,
        model=release.backbone.__name__,
        arch=release.arch_name(fields) or fields,
        settings=backbone.settings(),
        matched=len(weights),
        total=len(backbone.state_dict()),
        licence=release.licence,
    )


def _check_values(weights: Mapping[str, Tensor]) -> None:
    floating = {k: v for k, v in weights.items() if v.is_floating_point()}
    not_finite = [k for k, v in floating.items() if not v.isfinite().all()]
    if not_finite:
        raise CheckpointMismatchError(
            f"{len(not_finite)} entries hold NaN or infinity, e.g. {not_finite[:3]}: the training "
            "diverged or the file is damaged"
        )
    # batch norms count their batches
    wrong = [k for k in weights if k not in floating and not k.endswith("num_batches_tracked")]
    if wrong:
        dtype = weights[wrong[0]].dtype
        raise CheckpointMismatchError(f"expected floating point weights, got {wrong[0]} of {dtype}")


def convert_file(
    source: str | Path,
    target: str | Path,
    *,
    arch: str | None = None,
    key: str | None = None,
    trust: bool = False,
    table: Rows = (),
) -> Conversion:
    """Convert a released file into an mmengine checkpoint, or into a safetensors file.

    Args:
        source: The released file: weights, the dump of a trainer, or a detector or segmentor.
        target: The file to write; it appears only when it is complete. The name says the format:
            ``*.safetensors``, or else that of ``torch.save``.
        arch: See :func:`convert_weights`.
        key: Dotted path to the weights in the file, where it has several sets (``model_ema``).
        trust: See :func:`mmquad.checkpoints.files.read_checkpoint`. Not needed for the options of
            a trainer (``argparse.Namespace``), which hold values only.
        table: Released files (:func:`mmquad.releases.table.read_table`), for the config to note.

    Raises:
        CheckpointFileError: The file cannot be opened.
        CheckpointMismatchError: It does not hold weights of a known release that fit entirely.
    """
    source, target = Path(source), Path(target)
    conversion = read_release(source, arch=arch, key=key, trust=trust)
    conversion.meta = conversion_meta(conversion, source, table)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.tmp")
    try:
        if target.suffix == ".safetensors":
            write_safetensors(draft, conversion.state_dict, conversion.meta)
        else:
            # clones: a tensor that is a view would be written with all of its storage
            weights = {k: v.detach().clone().contiguous() for k, v in conversion.state_dict.items()}
            torch.save({"meta": conversion.meta, "state_dict": weights}, draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return conversion


def conversion_meta(conversion: Conversion, source: Path, table: Rows) -> dict[str, Any]:
    """What the written file says of itself."""
    digest = file_sha256(source)
    meta = {
        "source": source.name,
        "sha256": digest,
        "model": conversion.model,
        "arch": conversion.arch,
        "settings": conversion.settings,
        **({"licence": conversion.licence} if conversion.licence else {}),
    }
    rows, _ = fitting_rows(
        table,
        sha256=digest,
        name=source.name,
        model=conversion.model,
        arch=conversion.arch,
        task=task_of(conversion.state_dict),
    )
    configs = [row["config"] for row in rows if row.get("config")]
    return meta | ({"config": configs[0]} if configs else {})


def read_release(
    source: str | Path,
    *,
    arch: str | None = None,
    key: str | None = None,
    trust: bool = False,
) -> Conversion:
    """As :func:`convert_file`, without writing anything."""
    allowed = [argparse.Namespace, *runner_checkpoint_globals()]
    content = read_checkpoint(source, trust=trust, allowed=allowed)
    try:
        return convert_weights(find_state_dict(content, key), arch)
    except CheckpointMismatchError as error:
        raise CheckpointMismatchError(f"{source}: {error}") from error


def _build(
    release: Release, fields: dict[str, Any], weights: Mapping[str, Tensor]
) -> VisionBackbone:
    # classifiers have the last norm only
    normed = sorted(int(m[1]) for name in weights if (m := re.match(r"norm(\d+)\.weight", name)))
    first = next((n for n in weights if re.match(r"stem\.convs?1?\.(0\.)?weight", n)), None)
    arguments = {
        "arch": fields,
        "in_channels": weights[first].shape[1] if first and weights[first].ndim == 4 else 3,
        "out_indices": normed or (-1,),
        **release.told(weights),
    }
    try:
        return release.build(**arguments)
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
