"""Says which files of a data set are empty, cut off or something else than their names promise."""

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config

from mmquad.checks.data_paths import data_paths
from mmquad.errors import OneProcessError, SetupError

__all__ = ["annotation_problem", "check_annotations", "damaged_images", "image_problem"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
# Reading COCO's 450 MB here too would cost every start five seconds and 3 GB; damage at the
# beginning or the end is found without.
_LARGEST_PARSED = 64 << 20
_LISTED = 10

_SIGNATURES = {
    b"\xff\xd8\xff": b"\xff\xd9",  # JPEG: start and end of image
    b"\x89PNG\r\n": b"IEND",
}


def image_problem(path: str | Path, *, decode: bool = True) -> str | None:
    """Why an image cannot be used, or None.

    Args:
        path: The image.
        decode: Decode it too. Without, its first and last bytes are looked at: that is fast, and
            finds empty and cut-off files and those of other types.
    """
    path = Path(path)
    if not path.is_file():
        return "a folder" if path.is_dir() else "missing"
    size = path.stat().st_size
    if size == 0:
        return "empty (0 bytes)"
    with open(path, "rb") as file:
        start = file.read(32)
        file.seek(max(0, size - 64))
        end = file.read().rstrip(b"\0\n\r ")
        for signature, last in _SIGNATURES.items():
            if start.startswith(signature) and last not in end[-16:]:
                return f"cut off after {size:,} bytes"
        if start.lstrip()[:1] == b"<" or start.startswith(b"version https://git-lfs"):
            return f"no image but text, beginning with {start!r}"
        if not decode:
            return None
        file.seek(0)
        content = np.frombuffer(file.read(), dtype=np.uint8)
    if cv2.imdecode(content, cv2.IMREAD_UNCHANGED) is None:
        return f"cannot be decoded ({size:,} bytes beginning with {start[:8]!r})"
    return None


def damaged_images(cfg: Config, splits: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    """Images in the folders that a config reads, with what is wrong with them."""
    for item in data_paths(cfg, splits):
        if item.is_folder:
            for path in sorted(item.path.rglob("*")):
                if path.suffix.lower() in IMAGE_SUFFIXES:
                    problem = image_problem(path, decode=False)
                    if problem:
                        yield path, problem


def explain_unreadable_image(error: Exception, cfg: Config, splits: tuple[str, ...]) -> None:
    """Raise, for an error of the image decoder, one that names all damaged images.

    The decoder's names one file, or none, and comes from a loading process.

    Raises:
        OneProcessError: The error came from an image, and damaged ones have been found.
    """
    text = str(error)
    if "imdecode" not in text and "failed to load image" not in text:
        return
    damaged = list(damaged_images(cfg, splits))
    if not damaged:
        return
    listed = "\n".join(f"  {path}: {problem}" for path, problem in damaged[:_LISTED])
    more = f"\n  and {len(damaged) - _LISTED} more" if len(damaged) > _LISTED else ""
    raise OneProcessError(
        f"{len(damaged)} images cannot be read:\n{listed}{more}\n"
        "What to do: copy them again or take them out of the data set; then continue with "
        "--resume. Saved checkpoints are untouched."
    ) from error


def annotation_problem(path: str | Path) -> str | None:
    """Why a COCO annotation file cannot be used, or None."""
    path = Path(path)
    size = path.stat().st_size
    if size == 0:
        return "it is empty (0 bytes)"
    with open(path, "rb") as file:
        start = file.read(64).lstrip(b"\xef\xbb\xbf \r\n\t")
        file.seek(max(0, size - 64))
        end = file.read().rstrip()
    if not start.startswith(b"{"):
        return f"it is no JSON dictionary, it begins with {start[:20]!r}"
    if not end.endswith(b"}"):
        return f"it is cut off after {size:,} bytes, at {end[-20:]!r}"
    if size > _LARGEST_PARSED:
        return None
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        return f"it is no valid JSON: {error}"
    absent = [key for key in ("images", "annotations", "categories") if not content.get(key)]
    return f"it has no {', no '.join(absent)}" if absent else None


def check_annotations(cfg: Config, splits: tuple[str, ...]) -> None:
    """Raise if an annotation file in COCO's format is empty, cut off or holds nothing.

    Raises:
        SetupError: Naming the files, the keys of the config and what is wrong.
    """
    found = []
    for item in data_paths(cfg, splits):
        if not item.is_folder and item.path.suffix == ".json":
            problem = annotation_problem(item.path)
            if problem:
                found.append(f"  {item.path} ({item.key}): {problem}")
    if found:
        raise SetupError(
            "These annotation files cannot be used:\n"
            + "\n".join(found)
            + "\nWhat to do: download or write them again; a file in COCO's format is a JSON "
            "dictionary with images, annotations and categories."
        )
