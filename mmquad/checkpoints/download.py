"""Checkpoints named by URL: fetched once, then read like local files."""

import hashlib
import os
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import url2pathname

import torch

from mmquad.checkpoints.files import CheckpointFileError, read_checkpoint

__all__ = ["cached_path", "read_checkpoint_from"]


def read_checkpoint_from(source: str, *, allowed: Sequence[Any] = ()) -> Any:
    """Content of a checkpoint at a path or a URL (``http``, ``https``, ``file``).

    What is fetched is kept in torch's hub folder (``$TORCH_HOME``, default ``~/.cache/torch``) for
    as long as it can be opened: a page saved instead of weights is fetched anew the next time.

    Args:
        source: Path or URL.
        allowed: See :func:`read_checkpoint`.

    Raises:
        CheckpointFileError: It cannot be fetched, or is no checkpoint that is safe to open.
    """
    scheme = urlsplit(source).scheme if "://" in source else ""
    if not scheme:
        return read_checkpoint(source, allowed=allowed)
    if scheme == "file":
        return read_checkpoint(url2pathname(urlsplit(source).path), allowed=allowed)
    if scheme not in ("http", "https"):
        raise CheckpointFileError(
            f"checkpoints are read from paths and from http, https and file URLs, got {source}. "
            "Download it and name the file."
        )
    path = cached_path(source)
    if not path.is_file():
        _fetch(source, path)
    try:
        return read_checkpoint(path, allowed=allowed)
    except CheckpointFileError as error:
        path.unlink(missing_ok=True)
        raise CheckpointFileError(f"{source} was fetched but cannot be used: {error}") from error


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
