"""Putting weights into a model, or saying exactly why they do not fit."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mmquad.checkpoints.in_channels import other_in_channels

__all__ = [
    "CheckpointMismatchError",
    "check_fit",
    "check_settings",
    "extract_state_dict",
    "find_state_dict",
    "fitting_weights",
    "load_strict",
    "take_prefix",
    "unused_parts",
]

_CONTAINERS = ("state_dict", "model", "module", "net")
_WRAPPERS = ("module.", "_orig_mod.", "model.")
_SHOWN = 8


class CheckpointMismatchError(RuntimeError):
    """The keys or shapes of a checkpoint do not fit the model."""


def extract_state_dict(checkpoint: Mapping[str, Any], key: str | None = None) -> dict[str, Tensor]:
    """Tensors of a checkpoint, wherever in the file they are, under the names they have there.

    Follows ``state_dict``, ``model``, ``module`` and ``net`` as deep as they are nested.

    Args:
        checkpoint: Content of the file.
        key: Dotted path to the weights, such as ``model_ema``, where the file has several.

    Raises:
        CheckpointMismatchError: There are no tensors, or not under ``key``.
    """
    part: Any = checkpoint
    for word in key.split(".") if key else ():
        if not isinstance(part, Mapping) or word not in part:
            raise CheckpointMismatchError(f"the file has no {key!r}; its keys are {_some(part)}")
        part = part[word]
    while isinstance(part, Mapping):
        inner = next((part[k] for k in _CONTAINERS if isinstance(part.get(k), Mapping)), None)
        if inner is None:
            break
        part = inner
    named = part if isinstance(part, Mapping) else {}
    tensors = {str(name): value for name, value in named.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointMismatchError(
            f"no weights found: expected names and tensors, maybe under one of "
            f"{', '.join(_CONTAINERS)}, got {_some(part)}"
        )
    return tensors


def find_state_dict(checkpoint: Mapping[str, Any], key: str | None = None) -> dict[str, Tensor]:
    """As :func:`extract_state_dict`, under the model's own names.

    What DistributedDataParallel and ``torch.compile`` put before every name is removed.
    """
    weights = extract_state_dict(checkpoint, key)
    while wrapper := next((w for w in _WRAPPERS if all(n.startswith(w) for n in weights)), None):
        weights = {name.removeprefix(wrapper): value for name, value in weights.items()}
    return weights


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
    differing = [name for name in wanted if _plain(settings.get(name)) != _plain(wanted[name])]
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


def unused_parts(model: nn.Module, state_dict: Mapping[str, Tensor]) -> list[str]:
    """Named parts of a checkpoint that the model was built without, as prefixes of its entries.

    A head that is left out for a test, such as mmseg's ``auxiliary_head=None``, changes no output.
    What a backbone or a list of layers has besides is not such a part: other weights were trained
    with it.

    Returns:
        Prefixes with their dot, e.g. ``["auxiliary_head."]``.
    """
    own: set[str] = set()
    for name in model.state_dict():
        words = name.split(".")
        own |= {".".join(words[: i + 1]) for i in range(len(words))}
    found = []
    for name in state_dict:
        words = name.split(".")
        depth = next((i for i in range(len(words)) if ".".join(words[: i + 1]) not in own), None)
        if depth is None or depth == len(words) - 1 or words[0] == "backbone":
            continue
        if not words[depth].isdecimal():
            found.append(".".join(words[: depth + 1]) + ".")
    return list(dict.fromkeys(found))


def fitting_weights(
    model: nn.Module, checkpoint: Mapping[str, Any], *, source: str
) -> dict[str, Tensor]:
    """Weights of a checkpoint that are all those of a model, with its backbone's settings.

    Parts that the model was built without are left out, see :func:`unused_parts`.

    Raises:
        CheckpointMismatchError: See :func:`check_fit` and :func:`check_settings`; or weights are
            not finite.
    """
    weights = find_state_dict(checkpoint)
    unused = tuple(unused_parts(model, weights))
    weights = {name: value for name, value in weights.items() if not name.startswith(unused)}
    check_fit(model, weights, source=source)
    spoilt = [name for name, _ in model.named_parameters() if not weights[name].isfinite().all()]
    if spoilt:
        raise CheckpointMismatchError(
            f"{len(spoilt)} entries of {source} hold NaN or infinity, e.g. {spoilt[:3]}: its "
            "training diverged, or the file is damaged. Take an earlier checkpoint."
        )
    backbone: Any = getattr(model, "backbone", None)
    if hasattr(backbone, "settings"):
        check_settings(checkpoint, backbone.settings(), source=source)
    return weights


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
    for key in other_in_channels(own, state_dict):
        theirs, mine = state_dict[key].shape[1], own[key].shape[1]
        return (
            f"\n  The weights are for images of {theirs} channels, the model is for {mine}: set "
            "adapt_in_channels='sum' or 'repeat' in init_cfg of the backbone to adapt them."
        )
    example = next(iter(own))
    for key in state_dict:
        if key.endswith("." + example):
            prefix = key.removesuffix(example)
            return f"\n  The names fit without {prefix!r}: set prefix={prefix!r} in init_cfg."
    return (
        "\n  Check that the backbone's arch and settings are those the weights were trained with."
    )


def _plain(value: Any) -> Any:
    """With lists for tuples, as some files give them back."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _some(part: Any) -> list[str]:
    return (
        [str(key) for key in part][:_SHOWN] if isinstance(part, Mapping) else [type(part).__name__]
    )
