"""Folders as model hubs want them: weights, configs, and a card that says what they are.

Stands above ``inference``, which builds the model that the weights must fit.
"""

from mmquad.publishing.hub_folder import export_hub, read_metrics

__all__ = ["export_hub", "read_metrics"]
