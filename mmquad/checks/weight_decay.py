"""Notes a training that would decay what must not decay."""

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["note_decay"]

_CONSTRUCTOR = "mmquad.StateSpaceOptimWrapperConstructor"


def note_decay(cfg: Mapping[str, Any]) -> list[str]:
    """What the log should say of the weight decay of a config: nothing, or one note.

    A constructor that the config names, or a pattern for ``A_log`` in its ``custom_keys``, is taken
    as meant.

    Args:
        cfg: Config of a training.
    """
    wrapper = cfg.get("optim_wrapper") or {}
    optimizer = wrapper.get("optimizer") or {}
    options = wrapper.get("paramwise_cfg") or {}
    decay = optimizer.get("weight_decay", 0.01 if optimizer.get("type") == "AdamW" else 0)
    if not decay or "constructor" in wrapper or "A_log" in (options.get("custom_keys") or {}):
        return []
    names = sorted({name for name in _backbones(cfg.get("model")) if name.startswith("mmquad.")})
    if not names:
        return []
    return [
        f"The weight decay of {decay} also pulls the state-space parameters (A, D, the bias of the "
        f"step sizes) of {', '.join(names)} towards zero, against the papers. To spare them, set "
        f"optim_wrapper.constructor={_CONSTRUCTOR!r}; to mean it, name mmengine's "
        "'DefaultOptimWrapperConstructor' there."
    ]


def _backbones(model: Any) -> Iterator[str]:
    """Types of the backbones of a model, also of a model within a model."""
    if isinstance(model, Mapping):
        for key, part in model.items():
            if key == "backbone" and isinstance(part, Mapping):
                yield str(part.get("type"))
            else:
                yield from _backbones(part)
