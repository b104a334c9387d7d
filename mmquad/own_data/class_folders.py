"""Reads a folder with a folder of images for each class, as ImageNet's."""

from pathlib import Path

from mmquad.checks.damaged_images import IMAGE_SUFFIXES, image_problem
from mmquad.errors import SetupError
from mmquad.own_data.labels import Fault, Labels

__all__ = ["read_class_folders"]


def read_class_folders(root: str | Path) -> Labels:
    """Classes by the names of the folders in their sorted order, which is mmpretrain's labels.

    Args:
        root: The folder of a split.

    Raises:
        SetupError: It is missing, or has no folders with images.
    """
    root = Path(root)
    if not root.is_dir():
        raise SetupError(f"{root} is missing (looked from {Path.cwd()}).")
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    labels = Labels(root, tuple(folder.name for folder in folders))
    for folder in folders:
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            labels.faults.append(Fault("a class without an image", folder.name))
        for path in files:
            if not str(path.relative_to(root)).isascii():
                labels.faults.append(Fault("a name that is not ASCII", str(path)))
            problem = image_problem(path, decode=False)
            if problem is not None:
                labels.faults.append(Fault("an image that cannot be read", f"{path} ({problem})"))
                continue
            labels.images.append(path)
            labels.counts[folder.name] += 1
    if not labels.images:
        raise SetupError(
            f"{root} has no images in folders of their classes: expected {root}/CLASS/*.jpg"
        )
    return labels
