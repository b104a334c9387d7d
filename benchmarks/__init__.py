"""Speed, memory and accuracy of the ops and backbones, measured side by side in one run.

Run from the repository's root: ``python -m benchmarks.benchmark_scan``. Nothing here is installed.
"""
