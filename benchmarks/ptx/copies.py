"""``cp.async``: copies to shared memory that arrive when a thread waits for them, not before.

A device may write the bytes at any moment in between; so from the copy to the wait nobody may touch
their place, and after it other threads need a barrier, as for any write.
"""

from typing import NamedTuple

import numpy as np

from benchmarks.ptx.memory import Access, Region

__all__ = ["Copies"]


class _Copy(NamedTuple):
    """Words ``[n, words]`` for the threads ``[n]``; ``groups``: theirs, counted from 0."""

    threads: np.ndarray
    groups: np.ndarray
    addresses: np.ndarray
    words: np.ndarray


class Copies:
    """Those of a block's threads."""

    def __init__(self, threads: int, shared: Region) -> None:
        self._shared = shared
        self._committed = np.zeros(threads, np.int64)
        self._under_way: list[_Copy] = []

    def start(self, addresses: np.ndarray, words: np.ndarray, access: Access) -> None:
        """Copy ``words`` [n, words] to consecutive words from ``addresses`` [n] on."""
        at = addresses[:, None] + 4 * np.arange(words.shape[1])
        self._shared.reserve(at.ravel(), _per_word(access, words.shape[1]))
        groups = self._committed[access.threads]
        self._under_way.append(_Copy(access.threads, groups, at, words))

    def commit(self, mask: np.ndarray) -> None:
        """What the threads have started since they last did this becomes a group."""
        self._committed[mask] += 1

    def wait(self, mask: np.ndarray, allowed: int, access: Access) -> None:
        """Until at most ``allowed`` groups of a thread are under way; -1: nothing at all."""
        left = []
        for copy in self._under_way:
            waiting = mask[copy.threads]
            done = waiting & (copy.groups < self._committed[copy.threads] - allowed)
            if done.any():
                words = copy.words[done]
                arrived = _per_word(access._replace(threads=copy.threads[done]), words.shape[1])
                self._shared.arrive(copy.addresses[done].ravel(), words.ravel(), arrived)
            if not done.all():
                left.append(_Copy(*(part[~done] for part in copy)))
        self._under_way = left


def _per_word(access: Access, words: int) -> Access:
    return access._replace(threads=np.repeat(access.threads, words))
