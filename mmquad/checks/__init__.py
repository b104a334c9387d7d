"""Checks of files, data and classes: what is missing, damaged, mislabelled or does not fit.

``policy`` lists them all, says which find facts and which guess, and switches them off. May import
``checkpoints`` and ``errors``; ``engine`` calls these before it builds anything, ``hooks`` once
the Runner has.
"""
