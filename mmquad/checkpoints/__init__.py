"""Foreign checkpoints as pure state-dict conversions, and strict loading."""

from mmquad.checkpoints.loading import CheckpointMismatchError, extract_state_dict, load_strict
from mmquad.checkpoints.quadmamba import convert_quadmamba

__all__ = ["CheckpointMismatchError", "convert_quadmamba", "extract_state_dict", "load_strict"]
