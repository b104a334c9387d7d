"""Files of the Hugging Face hub, by ``hf://owner/name@revision/file``."""

import logging
import re
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from mmquad.checkpoints.files import CheckpointFileError, file_sha256

__all__ = [
    "HUB_SCHEME",
    "WEIGHTS_FILE",
    "HubFile",
    "can_fetch",
    "fetch_from_hub",
    "hub_file",
    "require_hub",
]

HUB_SCHEME = "hf://"
# What an address without a file means: the hub's own name for a model's weights.
WEIGHTS_FILE = "model.safetensors"

_FORM = "hf://owner/name/file, or hf://owner/name@revision/file"
_NAME = re.compile(r"[\w.-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LOG = logging.getLogger(__name__)


class HubFile(NamedTuple):
    """A file of a repository.

    Attributes:
        repository: ``owner/name``.
        file: Its path there.
        revision: A branch, a tag or a commit; None: the newest of the main branch.
    """

    repository: str
    file: str
    revision: str | None = None


def hub_file(address: str) -> HubFile | None:
    """The file that an address names; None if it is no address of the hub.

    Args:
        address: ``hf://owner/name``, with ``@revision`` (slashes in it written ``%2F``) and
            ``/file`` (default ``model.safetensors``); or the address of a download by a browser,
            ``https://huggingface.co/owner/name/resolve/revision/file``.

    Raises:
        CheckpointFileError: It begins with ``hf://`` and names no file.

    Example:
        >>> hub_file("hf://somebody/quadmamba-small@v1/weights/ade20k.pth")
        HubFile(repository='somebody/quadmamba-small', file='weights/ade20k.pth', revision='v1')
    """
    if not address.startswith(HUB_SCHEME):
        return _of_url(address)
    owner, _, rest = address.removeprefix(HUB_SCHEME).partition("/")
    repository, _, file = rest.partition("/")
    name, at, revision = repository.partition("@")
    words = file.split("/") if file else []
    if (
        not (_NAME.fullmatch(owner) and _NAME.fullmatch(name))
        or (at and not revision)
        or any(word in ("", ".", "..") for word in words)
    ):
        raise CheckpointFileError(f"a file of the hub is named {_FORM}, got {address}")
    return HubFile(f"{owner}/{name}", file or WEIGHTS_FILE, unquote(revision) or None)


def _of_url(address: str) -> HubFile | None:
    parts = urlsplit(address)
    if parts.scheme != "https" or parts.netloc != "huggingface.co":
        return None
    words = [unquote(word) for word in parts.path.strip("/").split("/")]
    if len(words) < 5 or words[2] not in ("resolve", "blob"):
        return None
    return HubFile("/".join(words[:2]), "/".join(words[4:]), words[3])


def can_fetch() -> bool:
    """Whether ``huggingface_hub`` is installed."""
    return find_spec("huggingface_hub") is not None


def require_hub(address: str) -> None:
    """Raise if ``huggingface_hub`` is not installed.

    Raises:
        CheckpointFileError: Naming the address that needs it.
    """
    if not can_fetch():
        raise CheckpointFileError(
            f"{address} is fetched by huggingface_hub, which is not installed.\n"
            "What to do: pip install huggingface_hub, or download the file and give its path."
        )


def fetch_from_hub(wanted: HubFile) -> Path:
    """The file in the cache of ``huggingface_hub``, fetched if it or a newer one is not there.

    Without a network, or with ``HF_HUB_OFFLINE=1``, the one in the cache is taken. Large files lie
    there under their SHA-256, with which the content is compared.

    Raises:
        CheckpointFileError: ``huggingface_hub`` is not installed; there is no such file, or no
            right to it; it is not in the cache and cannot be fetched; the cache is damaged.
    """
    name = HUB_SCHEME + wanted.repository + (f"@{wanted.revision}" if wanted.revision else "")
    name += f"/{wanted.file}"
    require_hub(name)
    from huggingface_hub import constants, hf_hub_download

    try:
        path = Path(hf_hub_download(wanted.repository, wanted.file, revision=wanted.revision))
    except Exception as error:  # of its own, of its HTTP library, of the disk: they share no base
        lines = str(error).strip().splitlines()
        reason = f": {lines[0][:300]}" if lines else ""
        raise CheckpointFileError(
            f"{name} cannot be fetched, and is not in the cache ({constants.HF_HUB_CACHE}): "
            f"{type(error).__name__}{reason}\n"
            f"What to do: check the address ({_FORM}) and the network"
            + (" (HF_HUB_OFFLINE is set: unset it)" if constants.HF_HUB_OFFLINE else "")
            + "; for private and gated repositories log in (hf auth login); or download the file "
            "elsewhere and give its path."
        ) from error
    blob = path.resolve()
    if _SHA256.fullmatch(blob.name) and file_sha256(blob) != blob.name:
        blob.unlink()
        path.unlink(missing_ok=True)
        raise CheckpointFileError(
            f"{name} was damaged in the cache ({blob}: its SHA-256 is not its name) and has been "
            "removed from it; try again to fetch it anew."
        )
    _LOG.info("%s is %s", name, path)
    return path
