"""Pictures: scan orders, partition maps, receptive fields, curves, sheets of predictions.

Functions that return arrays or figures. matplotlib is imported where a figure is drawn.
"""
