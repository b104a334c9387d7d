"""Says which images of a data set are missing, empty, cut off or nothing that can be decoded."""

import contextlib
import io
import os
import re
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist
from mmengine.config import Config

from mmquad.checks.data_paths import data_paths
from mmquad.errors import OneProcessError

__all__ = [
    "Search",
    "explain_unreadable_image",
    "find_damaged",
    "image_problem",
    "pipeline_decoders",
]

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif"),
)
Decoders = tuple[tuple[str, str], ...]
_OPENCV: Decoders = (("cv2", "color"),)
_LISTED = 10
# Opening COCO's 118 thousand training images takes a disk of a network minutes.
_SEARCH_SECONDS = 20.0

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_LAST = {_JPEG: b"\xff\xd9", _PNG: b"IEND"}
# Within the coded data of a JPEG, 0xff is followed by 0 or by the number of a restart.
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")


def image_problem(
    path: str | Path, *, decode: bool = True, decoders: Decoders = _OPENCV
) -> str | None:
    """Why an image cannot be used, or None.

    What a pipeline can read is no problem, whatever lies behind the image's end: the video of a
    motion photo, further pictures, metadata.

    Args:
        path: The image.
        decode: Decode it always. Without, a JPEG or PNG whose last bytes are those of its format
            is believed to be whole, which is some hundred times faster.
        decoders: Backends and flags of ``mmcv.imfrombytes``, one of which has to read the image.
    """
    path = Path(path)
    try:
        if not path.is_file():
            return _no_file(path)
        with open(path, "rb") as file:
            start = file.read(32)
            size = file.seek(0, os.SEEK_END)
            if size == 0:
                return "empty (0 bytes)"
            if start.lstrip()[:1] in (b"<", b"{") or start.startswith(b"version https://git-lfs"):
                return f"no image but text, beginning with {start!r}"
            file.seek(max(0, size - 32))
            last = _LAST.get(_kind(start), b"")
            if not decode and last and last in file.read().rstrip(b"\0\n\r ")[-16:]:
                return None
            file.seek(0)
            content = file.read()
    except OSError as error:
        return f"cannot be opened: {error.strerror or error}"
    if not any(_decodes(content, *decoder) for decoder in decoders):
        if _is_cut_off(content):
            return f"cut off after {size:,} bytes"
        found = f"cannot be decoded ({size:,} bytes beginning with {start[:8]!r})"
        others = [name for name in ("cv2", "pillow") if name not in dict(decoders)]
        able = [name for name in others if _decodes(content, name, "color")]
        return found + "".join(f"; imdecode_backend='{name}' can read it" for name in able)
    # Some versions of OpenCV fill what a cut-off JPEG lacks with grey.
    if _kind(content) == _JPEG and not _jpeg_ends(content) and _pillow_error(content):
        return f"cut off after {size:,} bytes"
    return None


def _no_file(path: Path) -> str:
    if path.is_dir():
        return "a folder"
    if path.is_symlink():
        return f"a link to {os.readlink(path)}, which does not exist"
    return "no regular file" if path.exists() else "missing"


def _kind(content: bytes) -> bytes:
    return next((signature for signature in _LAST if content.startswith(signature)), b"")


def _decodes(content: bytes, backend: str, flag: str) -> bool:
    from mmcv import imfrombytes

    # Decoders raise what they like, on damaged headers in particular.
    with contextlib.suppress(Exception):
        picture = imfrombytes(content, flag=flag, backend=backend)
        return isinstance(picture, np.ndarray) and picture.size > 0
    return False


def _is_cut_off(content: bytes) -> bool:
    """Whether the end of an image that cannot be decoded is not there."""
    if content.startswith(_JPEG):
        return not _jpeg_ends(content)
    if content.startswith(_PNG):
        return not _png_ends(content)
    if content.startswith(b"RIFF"):  # WebP
        return int.from_bytes(content[4:8], "little") + 8 > len(content)
    return "truncated" in _pillow_error(content)


def _jpeg_ends(content: bytes) -> bool:
    """Whether a JPEG reaches the marker of its end, outside of the thumbnails in its header."""
    position = 2
    while marker := _JPEG_MARKER.search(content, position):
        code = marker[1][0]
        if code == 0xD9:  # end of image
            return True
        position = marker.end()
        if code != 0x01:  # all others have a length; coded data may follow
            position += int.from_bytes(content[position : position + 2], "big")
    return False


def _png_ends(content: bytes) -> bool:
    """Whether a PNG reaches the end of its last chunk: length, name, data, checksum."""
    position = len(_PNG)
    while position + 12 <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        if content[position + 4 : position + 8] == b"IEND":
            return True
        position += 12 + length
    return False


def _pillow_error(content: bytes) -> str:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except Exception as error:  # as above
        return f"{type(error).__name__}: {error}"
    return ""


def pipeline_decoders(cfg: Config, splits: tuple[str, ...]) -> Decoders:
    """Backends and flags with which the pipelines of a config decode images."""

    def steps(part: Any) -> Iterator[dict]:
        if isinstance(part, dict):
            yield part
        for inner in part.values() if isinstance(part, dict) else part:
            if isinstance(inner, dict | list | tuple):
                yield from steps(inner)

    found = {
        (step.get("imdecode_backend", "cv2"), step.get("color_type", "color"))
        for split in splits
        for step in steps(cfg.get(f"{split}_dataloader") or {})
        if "LoadImage" in str(step.get("type"))
    }
    return tuple(sorted(found)) or _OPENCV


@dataclass
class Search:
    """What a search for damaged images has found.

    Args:
        damaged: Images and what is wrong with them.
        looked_at: Number of images.
        is_complete: Whether these are all images; else the time or the number was used up.
    """

    damaged: dict[Path, str] = field(default_factory=dict)
    looked_at: int = 0
    is_complete: bool = True


def find_damaged(
    cfg: Config,
    splits: tuple[str, ...],
    *,
    seconds: float = _SEARCH_SECONDS,
    most: int = _LISTED,
    clock: Callable[[], float] = time.monotonic,
) -> Search:
    """Look for damaged images in the folders that a config reads.

    Args:
        cfg: The config.
        splits: Of ``train``, ``val`` and ``test``.
        seconds: When to stop.
        most: Number of damaged images at which to stop.
        clock: Seconds from any start.
    """
    search, end = Search(), clock() + seconds
    decoders = pipeline_decoders(cfg, splits)
    for path, problem in _images(cfg, splits):
        if clock() > end or len(search.damaged) >= most:
            search.is_complete = False
            break
        search.looked_at += 1
        problem = problem or image_problem(path, decode=False, decoders=decoders)
        if problem:
            search.damaged[path] = problem
    return search


def explain_unreadable_image(error: Exception, cfg: Config, splits: tuple[str, ...]) -> None:
    """Raise, for an error of an image decoder, one that names the damaged images.

    The decoder's names one file, or none, and comes from a loading process. The data set is
    searched for some seconds, by the first process that asks; the others wait for it, since the
    launcher ends all of them with the first.

    Raises:
        OneProcessError: The error came from an image, and a damaged one is known.
    """
    text = "".join(traceback.format_exception(error))
    if not any(sign in text for sign in ("imdecode", "imfrombytes", "failed to load image")):
        return
    decoders = pipeline_decoders(cfg, splits)
    named = {
        Path(name): image_problem(name, decoders=decoders) or "the pipeline could not read it"
        for name in re.findall(r"failed to load image: (.+)", text)
    }
    with _one_process() as searches:
        search = find_damaged(cfg, splits) if searches else Search(is_complete=False)
    damaged = named | search.damaged
    if not damaged and searches:
        return
    listed = "".join(f"\n  {path}: {problem}" for path, problem in damaged.items())
    count = f"{len(damaged)} images" if len(damaged) != 1 else "1 image"
    if not searches:
        extent = "Another process says which other images are damaged."
    elif search.is_complete:
        extent = (
            f"Looked at all {search.looked_at:,} images; damage in the middle of a file shows only "
            "when the file is decoded."
        )
    else:
        extent = (
            f"Looked at {search.looked_at:,} images, not at all of them: there may be more "
            "(docs/robustness.md shows how to look at all)."
        )
    raise OneProcessError(
        f"{count} cannot be read:{listed}\n{extent}\n"
        "What to do: copy them again or take them out of the data set; then continue with "
        "--resume. Saved checkpoints are untouched."
    ) from error


@contextlib.contextmanager
def _one_process() -> Iterator[bool]:
    """Whether this process is the first that asks; the others leave when it has left."""
    store: Any = None
    is_first = True
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        # A store that is gone, with the process that kept it, leaves every process to itself.
        with contextlib.suppress(RuntimeError, AttributeError):
            store = dist.distributed_c10d._get_default_store()
            is_first = store.add("mmquad/damaged_images", 1) == 1
    yield is_first
    with contextlib.suppress(RuntimeError):
        if store is not None and is_first:
            store.set("mmquad/damaged_images_done", "")
        elif store is not None:
            store.wait(["mmquad/damaged_images_done"], timedelta(seconds=2 * _SEARCH_SECONDS))


def _images(cfg: Config, splits: tuple[str, ...]) -> Iterator[tuple[Path, str | None]]:
    """Images, and folders that cannot be listed with the reason."""
    for item in data_paths(cfg, splits):
        closed: list[OSError] = []
        for folder, folders, names in os.walk(item.path, onerror=closed.append, followlinks=True):
            folders.sort()
            for name in sorted(names):
                if name.lower().endswith(IMAGE_SUFFIXES):
                    yield Path(folder, name), None
        yield from ((Path(e.filename), f"cannot be opened: {e.strerror}") for e in closed)
