"""A cache of ``huggingface_hub`` laid by hand, and a stand-in for the library that reads it."""

import hashlib
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest


def lay(cache: Path, repository: str, name: str, content: bytes, revision: str = "main") -> Path:
    """Put a file where the library would, were it large: a blob under its SHA-256, and links.

    Returns:
        The blob.
    """
    folder = cache / f"models--{repository.replace('/', '--')}"
    commit = hashlib.sha1(revision.encode()).hexdigest()
    blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
    link = folder / "snapshots" / commit / name
    ref = folder / "refs" / revision
    for path in (blob, link, ref):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link.unlink(missing_ok=True)
    link.symlink_to(blob)
    ref.write_text(commit)
    return blob


def use_cache(cache: Path, monkeypatch: pytest.MonkeyPatch, library: str = "stand-in") -> None:
    """Have addresses of the hub found in ``cache`` alone, as without a network.

    Args:
        cache: The folder.
        monkeypatch: Undoes it.
        library: ``real``, skipped where it is not installed, or ``stand-in``.
    """
    if library == "real":
        constants = pytest.importorskip("huggingface_hub.constants")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        return

    def hf_hub_download(repo_id: str, filename: str, *, revision: str | None = None) -> str:
        folder = cache / f"models--{repo_id.replace('/', '--')}"
        ref = folder / "refs" / (revision or "main")
        commit = ref.read_text() if ref.is_file() else revision or "main"
        path = folder / "snapshots" / commit / filename
        if not path.is_file():
            raise FileNotFoundError("we cannot find the requested files in the local cache")
        return str(path)

    module = ModuleType("huggingface_hub")
    module.__spec__ = ModuleSpec("huggingface_hub", None)
    module.hf_hub_download = hf_hub_download
    module.constants = SimpleNamespace(HF_HUB_CACHE=str(cache), HF_HUB_OFFLINE=True)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
