"""Opening checkpoint files that may be damaged, incomplete, or something else altogether."""

import hashlib
import pickle
import types
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from mmquad.checkpoints.safetensors_files import (
    is_safetensors,
    read_safetensors,
    safetensors_problem,
)

__all__ = ["CheckpointFileError", "FileKind", "check_file", "file_sha256", "read_checkpoint"]

FileKind = Literal["archive", "safetensors", "other"]

_DAMAGED = "Download or copy it again and compare its size and checksum with the source's."
_SIGNATURES = [
    # beginning of the file in lower case, what it is, what to do
    (b"<!doctype html", "an HTML page, not a checkpoint", None),
    (b"<html", "an HTML page, not a checkpoint", None),
    (b"<?xml", "an XML answer of a server, not a checkpoint", None),
    (b"version https://git-lfs", "a Git LFS pointer, not the file it stands for", "git lfs pull"),
    (b"{", "a text (JSON) file, not a checkpoint", None),
    (b"\x1f\x8b", "a gzip archive", "unpack it first: gunzip or tar xzf"),
]


class CheckpointFileError(RuntimeError):
    """A file cannot be opened as a checkpoint; the message says why and what to do."""


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_checkpoint(
    path: str | Path, *, trust: bool = False, allowed: Sequence[Any] = ()
) -> Mapping[str, Any]:
    """Content of a checkpoint in the format of ``torch.save`` or safetensors, on the CPU.

    Files in torch's zip format carry checksums, which are verified first: a damaged file never
    gives other weights in silence. A safetensors file, told by its content, has none; it becomes a
    dictionary with ``state_dict`` and ``meta``.

    Args:
        path: The file.
        trust: Also open files that hold other objects than tensors and plain containers. Opening
            such a file runs code that its author chose, with your rights. Objects of packages that
            are not installed are then left empty.
        allowed: Classes and functions that may occur without ``trust``.

    Raises:
        CheckpointFileError: The file is absent, empty, damaged, no checkpoint, or needs ``trust``.
    """
    path = Path(path)
    kind = check_file(path)
    if kind == "safetensors":
        try:
            return read_safetensors(path)
        except Exception as error:  # types of numbers that torch does not have, a disk that fails
            raise CheckpointFileError(f"{path} cannot be read: {error}") from error
    try:
        if trust:
            content = torch.load(
                path, map_location="cpu", weights_only=False, pickle_module=_LENIENT_PICKLE
            )
        else:
            with safe_globals(list(allowed)):
                content = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged pickle can raise anything: it is a program, here with some bytes changed.
    except Exception as error:
        foreign = [] if trust else _foreign_names(path, kind, error)
        if foreign:
            raise CheckpointFileError(
                f"{path} holds objects that are neither tensors nor plain containers: "
                f"{', '.join(foreign[:6])}.\n"
                "Opening them runs code that the file's author chose, with your rights: it can read"
                ", change and send away whatever you can.\n"
                "What to do: only if you trust where the file comes from, open it with trust=True "
                "(tools/model_converters/convert_checkpoint.py --trust)."
            ) from error
        raise CheckpointFileError(
            f"{path} is damaged or was not written by torch.save: {type(error).__name__}: "
            f"{str(error).splitlines()[0][:200] if str(error) else 'no details'}\n{_DAMAGED}"
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointFileError(
            f"{path} holds a {type(content).__name__}; expected a dictionary of weights. "
            "If it is a whole pickled model, save its state_dict() instead."
        )
    return content


def check_file(path: Path) -> FileKind:
    """The format of a file, which is intact as far as the format shows it.

    ``archive`` is that of ``torch.save``; ``other`` may be its format before torch 1.6.

    Raises:
        CheckpointFileError: The file is absent, empty, truncated or damaged.
    """
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointFileError(f"{path} {kind} (looked for from {Path.cwd()}).")
    size = path.stat().st_size
    if size == 0:
        raise CheckpointFileError(f"{path} is empty (0 bytes). {_DAMAGED}")
    with open(path, "rb") as file:
        start = file.read(256)
    if is_safetensors(start):  # first: the length that it begins with can look like anything
        problem = safetensors_problem(path)
        if problem is not None:
            raise CheckpointFileError(f"{path} is a safetensors file and {problem}. {_DAMAGED}")
        return "safetensors"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for signature, kind, advice in _SIGNATURES:
        if text.startswith(signature):
            advice = advice or (
                "The download was answered by a page, often a login, a quota or an error: "
                "open the link in a browser, download the file itself."
            )
            raise CheckpointFileError(f"{path} is {kind} ({size} bytes). {advice}")
    if not start.startswith(b"PK"):
        if path.suffix == ".safetensors":
            raise CheckpointFileError(
                f"{path} is not a safetensors file: it begins with {start[:12]!r}. {_DAMAGED}"
            )
        return "other"
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
            names = archive.namelist()
    # As above: a directory with changed bytes can raise many errors, not only BadZipFile.
    except Exception as error:
        raise CheckpointFileError(
            f"{path} is truncated or damaged ({size} bytes): {type(error).__name__}: {error}. "
            f"{_DAMAGED}"
        ) from error
    if bad is not None:
        raise CheckpointFileError(
            f"{path} is damaged: the checksum of its entry {bad} is wrong. {_DAMAGED}"
        )
    if not any(name.endswith("data.pkl") for name in names):
        raise CheckpointFileError(
            f"{path} is a zip archive, but not of torch.save; it holds e.g. {names[:3]}. "
            "Unpack it first if it contains the checkpoint."
        )
    return "archive"


def _foreign_names(path: Path, kind: FileKind, error: Exception) -> list[str]:
    """Objects that weights-only loading refuses; empty if it failed for another reason."""
    if kind == "archive":
        try:
            return sorted(set(get_unsafe_globals_in_checkpoint(path)))
        except Exception:
            return []
    message = str(error)
    marker = "Unsupported global: GLOBAL "
    if isinstance(error, pickle.UnpicklingError) and marker in message:
        return [message.split(marker)[1].split()[0]]
    return []


class _AbsentObject:
    """Stands for an object whose class cannot be imported; keeps nothing of it."""

    def __new__(cls, *args: object, **kwargs: object) -> "_AbsentObject":
        del args, kwargs
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __call__(self, *args: object, **kwargs: object) -> "_AbsentObject":
        return self

    def __setitem__(self, key: object, value: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...

    def append(self, item: object) -> None: ...

    def extend(self, items: object) -> None: ...

    def __hash__(self) -> int:
        return id(self)


class _LenientUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            return _AbsentObject


# What torch.load uses of a pickle module.
_LENIENT_PICKLE = types.ModuleType("lenient_pickle")
_LENIENT_PICKLE.__dict__.update(
    Unpickler=_LenientUnpickler,
    load=lambda file, **kwargs: _LenientUnpickler(file, **kwargs).load(),
    UnpicklingError=pickle.UnpicklingError,
)
