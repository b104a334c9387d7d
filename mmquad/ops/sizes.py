"""Questions about sizes that a compiled graph may leave open."""

import torch

__all__ = ["surely"]


def surely(condition: bool) -> bool:
    """Whether a condition on sizes holds; False also where ``torch.compile`` leaves them open.

    There the plain question would tie the graph to the answer, and the next image might need
    another graph. Ask so where a shortcut is all that depends on it.
    """
    if torch.compiler.is_compiling():
        from torch.fx.experimental.symbolic_shapes import statically_known_true

        return statically_known_true(condition)
    return bool(condition)
