"""Opens checkpoint files that may be damaged, and loads their weights strictly.

Imports torch and, where such a file is opened or fetched, safetensors and huggingface_hub only.
"""

from mmquad.checkpoints.files import CheckpointFileError, file_sha256, read_checkpoint
from mmquad.checkpoints.loading import (
    CheckpointMismatchError,
    check_fit,
    check_settings,
    extract_state_dict,
    load_strict,
)

__all__ = [
    "CheckpointFileError",
    "CheckpointMismatchError",
    "check_fit",
    "check_settings",
    "extract_state_dict",
    "file_sha256",
    "load_strict",
    "read_checkpoint",
]
