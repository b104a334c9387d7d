"""Foreign checkpoints as pure state-dict conversions, and strict loading."""

from mmquad.checkpoints.files import CheckpointFileError, file_sha256, read_checkpoint
from mmquad.checkpoints.loading import (
    CheckpointMismatchError,
    check_fit,
    check_settings,
    extract_state_dict,
    load_strict,
)
from mmquad.checkpoints.quadmamba import convert_quadmamba

__all__ = [
    "CheckpointFileError",
    "CheckpointMismatchError",
    "check_fit",
    "check_settings",
    "convert_quadmamba",
    "extract_state_dict",
    "file_sha256",
    "load_strict",
    "read_checkpoint",
]
