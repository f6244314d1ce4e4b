"""Passages that two token streams share word for word, wherever they stand in either (Rabin and Karp 1987)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

LENGTH = 64
"""Tokens of a passage: some fifty words, which two texts do not share by chance."""
STEP = 1 << 21
"""Passages that are hashed together: each array of them takes 16 MB."""

Hashes = npt.NDArray[np.uint64]

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
_MIX = 0xBF58476D1CE4E5B9


def held(ids: npt.NDArray[Any]) -> Hashes:
    """The hashes of a stream's passages, one behind the other without overlap, sorted."""
    every = [hashes[-start % LENGTH :: LENGTH] for start, hashes in _windows(ids)]
    return np.unique(np.concatenate([np.empty(0, np.uint64), *every]))


def shared(ids: npt.NDArray[Any], passages: Hashes) -> npt.NDArray[np.int64]:
    """Where in a stream one of these passages begins, ascending.

    Args:
        ids: token ids, `(tokens,)`, which may be mapped from disk.
        passages: what `held` gives of another stream.
    """
    found = [np.empty(0, np.int64)]
    for start, hashes in _windows(ids):
        if len(passages):
            places = np.minimum(np.searchsorted(passages, hashes), len(passages) - 1)
            found.append(start + np.flatnonzero(passages[places] == hashes))
    return np.concatenate(found)


def _windows(ids: npt.NDArray[Any]) -> Iterator[tuple[int, Hashes]]:
    """The hash of every passage of a stream, in parts, each with the place of its first one.

    The hash of tokens x is the sum of `x[i] * base^i` modulo 2^64, so that the difference of two running sums, times a
    power of the base's inverse, is that of a passage.
    """
    inverse = pow(_BASE, -1, 1 << 64)
    for start in range(0, len(ids) - LENGTH + 1, STEP):
        part = ids[start : start + STEP + LENGTH - 1].astype(np.uint64)
        part = (part + np.uint64(1)) * np.uint64(_MIX)
        part ^= part >> np.uint64(31)
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(part * _powers(_BASE, len(part)), dtype=np.uint64)])
        yield start, (sums[LENGTH:] - sums[:-LENGTH]) * _powers(inverse, len(sums) - LENGTH)


def _powers(base: int, count: int) -> Hashes:
    """`base^i` modulo 2^64 for each i below `count`."""
    factors = np.full(count, base, dtype=np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)
