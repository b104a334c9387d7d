"""Weights as their authors published them: which model a file holds, and its entries renamed.

One file per family holds its renames; ``known`` lists the releases, ``identify`` tells which one a
file is, ``convert`` writes a checkpoint that configs here load. May import ``backbones``, whose
models the results must fit, and ``checkpoints``.
"""
