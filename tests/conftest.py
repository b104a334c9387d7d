"""Tests in several processes share the cores."""

import os


def pytest_configure() -> None:
    """Under pytest-xdist: as many threads as cores for each worker, its subprocesses included.

    More threads than cores wait for each other at every parallel region, several times slower.
    """
    workers = os.environ.get("PYTEST_XDIST_WORKER_COUNT")
    if workers:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        threads = str(max(1, (cores or 1) // int(workers)))
        os.environ.setdefault("OMP_NUM_THREADS", threads)
