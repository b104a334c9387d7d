"""Runs a config: from the command line of ``tools/train.py`` and ``tools/test.py`` to the Runner.

May import ``checks``, ``checkpoints`` and ``errors``; hooks and optimizer parts come in by name,
through the registries.
"""
