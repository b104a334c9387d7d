"""From a config and a checkpoint to a model that predicts, and pictures of what it finds.

May import ``engine``, ``checks``, ``analysis`` and ``checkpoints``.
"""
