"""Checks of a config's files and data before a run: what is missing, damaged or mislabelled.

May import ``checkpoints`` and ``errors``; ``engine`` calls these before it builds anything.
"""
