"""The directions LocalMamba's search found, layer by layer (release, commit 75e5d1f)."""

from collections.abc import Sequence

from mmquad.scans.local import LOCAL_DIRECTIONS

__all__ = [
    "CANDIDATES",
    "FIXED_DIRECTIONS",
    "LOCALVIM_SEARCHED",
    "LOCALVMAMBA_SEARCHED",
    "layer_directions",
]

# What the search chooses from, in the order of its weights.
CANDIDATES = (" ".join(LOCAL_DIRECTIONS),)

# Without search: the same in every layer (paper, table 2, models marked with a star).
FIXED_DIRECTIONS = ("h h_flip w2 w2_flip",)

# One line per layer. LocalVim was searched once, for both sizes.
LOCALVIM_SEARCHED = (
    "h v_flip w7 w7_flip",
    "h_flip w2_flip w7 w7_flip",
    "h h_flip v w7",
    "h h_flip v v_flip",
    "h h_flip v v_flip",
    "h h_flip v v_flip",
    "h_flip v v_flip w7",
    "h_flip v v_flip w2_flip",
    "h h_flip v v_flip",
    "h h_flip v v_flip",
    "h v v_flip w2",
    "h v v_flip w2_flip",
    "h h_flip v_flip w7",
    "h_flip v v_flip w2",
    "h h_flip v v_flip",
    "h v w2 w2_flip",
    "v v_flip w2 w7",
    "h h_flip v w2",
    "h h_flip w2_flip w7",
    "v v_flip w2 w2_flip",
)

LOCALVMAMBA_SEARCHED = {
    "tiny": (
        "h h_flip w7 w7_flip",
        "h_flip v_flip w2 w2_flip",
        "h_flip v_flip w2_flip w7",
        "h_flip v v_flip w2",
        "h h_flip v_flip w2_flip",
        "h_flip v_flip w2 w2_flip",
        "h w2_flip w7 w7_flip",
        "h h_flip v v_flip",
        "h v_flip w7 w7_flip",
        "h_flip v w2 w7_flip",
        "v v_flip w2 w7_flip",
        "h h_flip v_flip w2_flip",
        "v_flip w2_flip w7 w7_flip",
        "h_flip v_flip w2_flip w7_flip",
        "h_flip v w7 w7_flip",
    ),
    "small": (
        "h v v_flip w7_flip",
        "h h_flip v w7",
        "h_flip v v_flip w7",
        "h_flip v w2_flip w7",
        "h_flip v w2_flip w7",
        "h_flip v_flip w2 w7_flip",
        "h_flip v v_flip w7",
        "h v v_flip w7",
        "h v v_flip w7",
        "h v v_flip w7_flip",
        "h h_flip v v_flip",
        "h v v_flip w2",
        "v v_flip w2_flip w7",
        "h h_flip v w2",
        "h_flip v v_flip w7_flip",
        "h h_flip v v_flip",
        "h v v_flip w7_flip",
        "h v v_flip w7_flip",
        "h h_flip v_flip w7",
        "h_flip v_flip w2_flip w7",
        "h_flip v v_flip w7_flip",
        "v v_flip w7 w7_flip",
        "h v v_flip w7_flip",
        "h_flip v v_flip w2",
        "h v v_flip w2_flip",
        "h h_flip v w7",
        "h h_flip w7 w7_flip",
        "h v_flip w2 w2_flip",
        "h v_flip w2 w7",
        "h v v_flip w7_flip",
        "h_flip v w2_flip w7",
        "h_flip v_flip w7 w7_flip",
        "h v w7 w7_flip",
    ),
}


def layer_directions(directions: str | Sequence[str], depth: int) -> list[tuple[str, ...]]:
    """Names of the directions of every layer.

    Args:
        directions: One string of names, separated by spaces, per layer, or one for all layers.
        depth: Number of layers.

    Raises:
        ValueError: There are neither one nor ``depth`` strings.
    """
    lines = [directions] if isinstance(directions, str) else list(directions)
    if len(lines) not in (1, depth) or not all(isinstance(line, str) for line in lines):
        raise ValueError(
            "directions must be a string of names such as 'h v_flip w7 w7_flip', or one string for "
            f"each of the {depth} layers, got {len(lines)}: {lines[:3]}"
        )
    names = [tuple(line.split()) for line in lines]
    return names * depth if len(names) == 1 else names
