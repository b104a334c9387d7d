"""Putting weights into a model, or saying exactly why they do not fit."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

__all__ = [
    "CheckpointMismatchError",
    "check_fit",
    "check_settings",
    "extract_state_dict",
    "load_strict",
    "take_prefix",
]

_CONTAINER_KEYS = ("state_dict", "model")
_SHOWN = 8


class CheckpointMismatchError(RuntimeError):
    """The keys or shapes of a checkpoint do not fit the model."""


def extract_state_dict(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors of a checkpoint: under ``state_dict`` or ``model``, or of the mapping itself."""
    for key in _CONTAINER_KEYS:
        if isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    tensors = {key: value for key, value in checkpoint.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointMismatchError(
            f"the checkpoint holds no tensors; its top-level keys are {list(checkpoint)[:_SHOWN]}"
        )
    return tensors


def take_prefix(state_dict: Mapping[str, Tensor], prefix: str | None) -> dict[str, Tensor]:
    """Entries whose name starts with ``prefix`` (with or without its dot), the prefix removed."""
    if not prefix:
        return dict(state_dict)
    prefix = prefix.rstrip(".") + "."
    chosen = {
        key.removeprefix(prefix): value
        for key, value in state_dict.items()
        if key.startswith(prefix)
    }
    if not chosen:
        raise CheckpointMismatchError(
            f"no entry starts with prefix {prefix!r}; the checkpoint has e.g. "
            f"{list(state_dict)[:_SHOWN]}"
        )
    return chosen


def check_settings(
    checkpoint: Mapping[str, Any], settings: Mapping[str, Any], *, source: str
) -> None:
    """Compare what a converted checkpoint says its weights need with what the model has.

    Such settings change the outputs but no shape, so that nothing else would notice.

    Args:
        checkpoint: Content of the file; without ``meta["settings"]`` everything fits.
        settings: Settings of the model.
        source: Where the checkpoint comes from, for the message.

    Raises:
        CheckpointMismatchError: A setting differs.
    """
    meta = checkpoint.get("meta")
    wanted = meta.get("settings") if isinstance(meta, Mapping) else None
    if not isinstance(wanted, Mapping):
        return
    differing = [name for name in wanted if settings.get(name) != wanted[name]]
    if differing:
        raise CheckpointMismatchError(
            f"{source} fits in shape but was trained with other settings: "
            + "; ".join(
                f"{name}={wanted[name]!r} there, {settings.get(name)!r} in this model"
                for name in differing
            )
            + ".\nWhat to do: give the backbone the settings of the weights ("
            + ", ".join(f"{name}={wanted[name]!r}" for name in differing)
            + "), or, to train on from them under other settings, set ignore_settings=True in "
            "init_cfg."
        )


def check_fit(
    model: nn.Module,
    state_dict: Mapping[str, Tensor],
    *,
    source: str,
    may_miss: Sequence[str] = (),
    may_ignore: Sequence[str] = (),
) -> None:
    """Compare the names and shapes of ``state_dict`` with those of ``model``.

    Args:
        model: The module that is to be filled.
        state_dict: Names and tensors.
        source: Where they come from, for the message.
        may_miss: Prefixes of model entries that the checkpoint may lack.
        may_ignore: Prefixes of checkpoint entries that the model may lack.

    Raises:
        CheckpointMismatchError: Lists missing and unexpected keys and wrong shapes.
    """
    own = model.state_dict()
    missing = [k for k in own if k not in state_dict and not k.startswith(tuple(may_miss))]
    surplus = [k for k in state_dict if k not in own and not k.startswith(tuple(may_ignore))]
    shapes = [
        f"{key}: model {tuple(own[key].shape)}, checkpoint {tuple(value.shape)}"
        for key, value in state_dict.items()
        if key in own and own[key].shape != value.shape
    ]
    if missing or surplus or shapes:
        matched = sum(key in own for key in state_dict) - len(shapes)
        raise CheckpointMismatchError(
            f"{source} does not fit {type(model).__name__}: {matched} of {len(own)} entries match."
            + _listing("missing from the checkpoint", missing)
            + _listing("unexpected in the checkpoint", surplus)
            + _listing("wrong shape", shapes)
            + _advice(own, state_dict)
        )


def load_strict(
    model: nn.Module,
    state_dict: Mapping[str, Tensor],
    *,
    source: str,
    may_miss: Sequence[str] = (),
    may_ignore: Sequence[str] = (),
) -> None:
    """Copy ``state_dict`` into ``model``; anything that does not fit raises before a value changes.

    The arguments and the error are those of :func:`check_fit`.
    """
    check_fit(model, state_dict, source=source, may_miss=may_miss, may_ignore=may_ignore)
    own = model.state_dict()
    model.load_state_dict({k: v for k, v in state_dict.items() if k in own}, strict=False)


def _listing(title: str, entries: Sequence[str]) -> str:
    if not entries:
        return ""
    shown = "".join(f"\n    {entry}" for entry in entries[:_SHOWN])
    more = f"\n    ... and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    return f"\n  {title} ({len(entries)}):{shown}{more}"


def _advice(own: Mapping[str, Tensor], state_dict: Mapping[str, Tensor]) -> str:
    example = next(iter(own))
    for key in state_dict:
        if key.endswith("." + example):
            prefix = key.removesuffix(example)
            return f"\n  The names fit without {prefix!r}: set prefix={prefix!r} in init_cfg."
    return (
        "\n  Check that the backbone's arch and settings are those the weights were trained with."
    )
