"""LocalMamba's search for scan directions (arXiv:2403.09338, section 3.4).

A search network (``arch='tiny-search'`` and others) runs all candidates in every layer and learns a
weight for each, ``alpha``, together with everything else and from the same loss: one level, no
temperature, no regularisation but weight decay. The directions of the largest weights are those of
the network that is then trained from scratch.
"""

from mmquad.search.directions import (
    DirectionLog,
    SearchLayer,
    read_direction_log,
    search_layers,
    top_directions,
    write_searched_config,
)

__all__ = [
    "DirectionLog",
    "SearchLayer",
    "read_direction_log",
    "search_layers",
    "top_directions",
    "write_searched_config",
]
