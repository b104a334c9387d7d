"""Arguments of backbones: those that all of them take, and how they are checked."""

from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import TypedDict

__all__ = ["BackboneArguments", "named_setting", "resolve_out_indices"]


class BackboneArguments(TypedDict, total=False):
    """What every backbone takes by keyword, besides what its own docstring lists.

    Attributes:
        in_channels: Channels of the image; 3 unless given.
        out_indices: Stages whose features are returned, ascending; negative ones count from the
            last. Unless given, all of a hierarchical backbone, the last of an isotropic one, where
            every layer is a stage.
        drop_path_rate: Stochastic depth of the last block, in [0, 1); it grows linearly from 0 with
            the first.
        frozen_stages: -1: nothing; 0: the stem (and learned positions); n: the first n stages too,
            with the downsampling into them and their output norms. What is frozen is in eval mode
            and has no gradient.
        norm_eval: Keep batch norms in eval mode while training.
        with_cp: Recompute blocks in the backward pass instead of keeping their activations.
        init_cfg: mmengine's. With ``type='Pretrained'`` the weights must fit entirely: only
            ``norm{i}`` of intermediate stages may be missing, since classifiers have none. A file
            that says which settings its weights need (:mod:`mmquad.releases.convert` writes it)
            must agree with the backbone's ``settings()``, unless ``ignore_settings=True`` is given.
            ``adapt_in_channels='sum'`` or ``'repeat'`` takes weights for images of another number
            of channels: :func:`mmquad.checkpoints.in_channels.adapt_in_channels`.
    """

    in_channels: int
    out_indices: int | Sequence[int] | None
    drop_path_rate: float
    frozen_stages: int
    norm_eval: bool
    with_cp: bool
    init_cfg: dict | list[dict] | None


def resolve_out_indices(out_indices: int | Sequence[int], stages: int) -> tuple[int, ...]:
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
