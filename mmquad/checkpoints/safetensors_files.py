"""Checkpoints in the safetensors format: names, tensors and text, nothing that runs."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

__all__ = ["is_safetensors", "read_safetensors", "safetensors_problem", "write_safetensors"]

# Texts of the file's metadata: a safetensors file holds no nested data but JSON.
_META = "meta"
# What readers of other frameworks look for, see the format's documentation.
_FORMAT = {"format": "pt"}
_LENGTH = struct.Struct("<Q")
_LARGEST_HEADER = 100_000_000  # bytes, by the format


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins so claims to be one: the length of its header, then JSON."""
    if len(start) < _LENGTH.size:
        return False
    (length,) = _LENGTH.unpack_from(start)
    return start[_LENGTH.size :].startswith(b"{") and 2 <= length <= _LARGEST_HEADER


def safetensors_problem(path: Path) -> str | None:
    """Why a file is no intact safetensors file, or None. The format has no checksums of values."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            file.keys()
    except (SafetensorError, OSError) as error:
        return _lacking(path) or f"damaged: {error}"
    return None


def read_safetensors(path: Path) -> dict[str, Any]:
    """An intact file as a dictionary with ``state_dict`` and ``meta``.

    ``meta`` is what :func:`write_safetensors` was given; other texts in the file stand beside it.

    Raises:
        SafetensorError: The file is damaged, or torch has no such type of numbers.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt", device="cpu") as file:
        # copies: what the reader gives is the file itself, which may change or go
        weights = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        texts = dict(file.metadata() or {})
    try:
        written = json.loads(texts.get(_META, "{}"))
    except ValueError:  # of another writer
        written = {}
    meta = {name: text for name, text in texts.items() if name not in (*_FORMAT, _META)}
    return {"state_dict": weights, "meta": meta | written if isinstance(written, dict) else meta}


def write_safetensors(path: Path, weights: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write weights, and what a file says of itself, as JSON.

    Args:
        path: The file.
        weights: Names and tensors. Those that share memory are written each for itself.
        meta: Texts, numbers, and lists and dictionaries of them. Tuples come back as lists.
    """
    from safetensors.torch import save

    own = {k: v.detach().cpu().clone().contiguous() for k, v in weights.items()}
    # Not by the library's save_file, whose files only their owner may read.
    path.write_bytes(save(own, {**_FORMAT, _META: json.dumps(meta)}))


def _lacking(path: Path) -> str | None:
    """What a file lacks of what its header promises."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        header = file.read(length)
    end = _LENGTH.size + length
    try:
        entries = json.loads(header) if len(header) == length else {}
        end += max(
            (e["data_offsets"][1] for e in entries.values() if "data_offsets" in e), default=0
        )
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None
    return f"cut off: {size:,} of {end:,} bytes are there" if size < end else None
