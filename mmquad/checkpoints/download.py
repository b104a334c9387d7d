"""Checkpoints named by address: fetched once, then read like local files."""

import hashlib
import os
import re
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import url2pathname

import torch

from mmquad.checkpoints.files import CheckpointFileError, file_sha256, read_checkpoint
from mmquad.checkpoints.hub import HUB_SCHEME, can_fetch, fetch_from_hub, hub_file, require_hub

__all__ = ["cached_path", "check_address", "local_file", "read_checkpoint_from"]

_CHECKSUM = "#sha256="


def read_checkpoint_from(source: str, *, trust: bool = False, allowed: Sequence[Any] = ()) -> Any:
    """Content of a checkpoint at a path or an address.

    What was fetched from a URL and cannot be opened is forgotten: a page saved instead of weights
    is fetched anew the next time.

    Args:
        source: Path or address, see :func:`local_file`.
        trust: See :func:`read_checkpoint`.
        allowed: See :func:`read_checkpoint`.

    Raises:
        CheckpointFileError: It cannot be fetched, has another checksum, or is no checkpoint that is
            safe to open.
    """
    path = local_file(source)
    try:
        return read_checkpoint(path, trust=trust, allowed=allowed)
    except CheckpointFileError as error:
        if not _is_remote(source):
            raise
        _forget(source, path)
        raise CheckpointFileError(f"{source} was fetched but cannot be used: {error}") from error


def local_file(source: str) -> Path:
    """The file at a path or an address, fetched if it is not there yet.

    Addresses are those of the hub (``hf://owner/name@revision/file``), by ``huggingface_hub`` and
    its cache, and URLs (``http``, ``https``, ``file``). What a URL gives is kept in torch's hub
    folder (``$TORCH_HOME``, default ``~/.cache/torch``). An address may end with
    ``#sha256=<64 digits>``; other content than that is refused.

    Args:
        source: Path or address.

    Raises:
        CheckpointFileError: It is no such address, cannot be fetched or has another checksum.
    """
    if "://" not in source:
        return Path(source)
    check_address(source)
    address, _, sha256 = source.partition(_CHECKSUM)
    own = cached_path(address)
    wanted = hub_file(address)
    if address.startswith("file:"):
        path = Path(url2pathname(urlsplit(address).path))
    elif wanted and (address.startswith(HUB_SCHEME) or (can_fetch() and not own.is_file())):
        path = fetch_from_hub(wanted)
    else:
        path = own
        if not path.is_file():
            _fetch(address, path)
    if sha256 and path.is_file() and (found := file_sha256(path)) != sha256.lower():
        _forget(source, path)
        raise CheckpointFileError(
            f"{address} is another file than the one asked for: the SHA-256 of {path} is {found}, "
            f"expected {sha256.lower()}."
        )
    return path


def _is_remote(source: str) -> bool:
    return "://" in source and not source.startswith("file:")


def _forget(source: str, path: Path) -> None:
    """Remove what was fetched for a URL; of files elsewhere others may know better."""
    if _is_remote(source) and path == cached_path(source.partition(_CHECKSUM)[0]):
        path.unlink(missing_ok=True)


def check_address(source: str) -> None:
    """Raise if an address cannot be one of a checkpoint; nothing is fetched.

    Raises:
        CheckpointFileError: It has another scheme, is incomplete, or needs what is not installed.
    """
    address, mark, sha256 = source.partition(_CHECKSUM)
    if address.startswith(HUB_SCHEME):
        hub_file(address)
        require_hub(address)
    elif urlsplit(address).scheme not in ("http", "https", "file"):
        raise CheckpointFileError(
            "checkpoints are read from paths, from hf://owner/name/file and from http, https and "
            f"file URLs, got {source}. Download it and name the file."
        )
    if mark and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise CheckpointFileError(f"{_CHECKSUM} takes 64 hexadecimal digits, got {sha256!r}")


def cached_path(url: str) -> Path:
    """Where the file of a URL is kept; equal file names of different URLs do not meet there."""
    name = PurePosixPath(urlsplit(url).path).name or "checkpoint"
    digest = hashlib.sha256(url.encode()).hexdigest()[:8]
    return Path(torch.hub.get_dir()) / "checkpoints" / f"{digest}_{name}"


def _fetch(url: str, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Writes beside the file and renames, so that processes may do this at the same time.
        torch.hub.download_url_to_file(url, str(path), progress="RANK" not in os.environ)
    # HTTPException (a server that hangs up) is no OSError.
    except (URLError, OSError, ValueError, HTTPException) as error:
        raise CheckpointFileError(
            f"{url} cannot be fetched: {type(error).__name__}: {error}.\n"
            f"What to do: check the address, the network and whether {path.parent} can be written "
            "(TORCH_HOME names another place), or fetch it elsewhere, copy it here and name the "
            "file."
        ) from error
