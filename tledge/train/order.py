"""Which rows meet in which batch: drawn from the seed for each epoch, rows of like length together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

POOL = 50
"""Batches whose rows are sorted by length together."""

Numbers = npt.NDArray[np.int64]


def epoch_order(n_rows: int, lengths: Numbers | None, batch_size: int, *, seed: int, epoch: int) -> list[Numbers]:
    """The row numbers of each batch of an epoch, each `(batch_size,) int64`; the last one has what is left over.

    Args:
        n_rows: how many rows there are.
        lengths: `(rows,) int64`, such as tokens; batches then have rows of like length, in an order that says nothing
            of it. `None` where all are alike.
        batch_size: rows of a batch.
        seed: of the training.
        epoch: which one, from 0; each has another order.
    """
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(n_rows)
    if lengths is not None:
        for start in range(0, n_rows, POOL * batch_size):
            pool = order[start : start + POOL * batch_size]
            whole = len(pool) // batch_size * batch_size
            pool[:whole] = pool[np.argsort(-lengths[pool[:whole]], kind="stable")]
    batches = [order[start : start + batch_size] for start in range(0, n_rows, batch_size)]
    n_whole = n_rows // batch_size
    if lengths is not None:
        batches[:n_whole] = [batches[i] for i in random.permutation(n_whole)]
    return batches


def share_of(batch: Numbers, process: int, n_processes: int) -> Numbers:
    """What one of several processes takes of a batch; all get as many rows, some of them twice where it must be."""
    each = -(-len(batch) // n_processes)
    return np.resize(batch, each * n_processes)[process * each : (process + 1) * each]


def by_length(n_rows: int, lengths: Numbers | None, batch_size: int) -> list[Numbers]:
    """The row numbers of each batch of a scoring, the longest rows first."""
    order = np.arange(n_rows) if lengths is None else np.argsort(-lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, n_rows, batch_size)]
