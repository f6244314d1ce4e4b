"""Which rows go where: seeded, stratified, and never the same text in two splits. Pure functions on row numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split

from tledge.errors import DataError

Indices = npt.NDArray[np.int64]


def first_of_each(digests: Sequence[bytes], labels: Sequence[tuple[str, ...]]) -> tuple[Indices, int, int]:
    """The first row of each text, and how many were left out: with the same labels, and with other labels."""
    first: dict[bytes, int] = {}
    duplicates = conflicts = 0
    for i, key in enumerate(digests):
        if key not in first:
            first[key] = i
        elif labels[first[key]] == labels[i]:
            duplicates += 1
        else:
            conflicts += 1
    return np.fromiter(first.values(), dtype=np.int64, count=len(first)), duplicates, conflicts


def strata(labels: Sequence[tuple[str, ...]]) -> list[str]:
    """One stratum for each row: its label, or the rarest of its labels; those of a single row are put together."""
    counts = Counter(name for row in labels for name in row)
    chosen = [min(row, key=lambda name: (counts[name], name)) if row else "" for row in labels]
    if all(len(row) == 1 for row in labels):
        return chosen
    sizes = Counter(chosen)
    return [name if sizes[name] > 3 else "" for name in chosen]


def cut(rows: Indices, groups: Sequence[str], size: float | int, seed: int, key: str) -> tuple[Indices, Indices]:
    """The rows that stay and those cut off, stratified by group.

    Args:
        rows: row numbers.
        groups: the stratum of every row number.
        size: a fraction of `rows`, or a count.
        seed: the same seed gives the same cut.
        key: the recipe's key, for messages.

    Raises:
        DataError: too few rows, or a label with too few of them.
    """
    own = [groups[i] for i in rows]
    count = round(size * len(rows)) if isinstance(size, float) else size
    n_groups = len(set(own))
    if count >= len(rows):
        raise DataError(f"{key}: asks for {count} rows, but there are {len(rows)}; none would be left to train on")
    if count < n_groups or len(rows) - count < n_groups:
        raise DataError(
            f"{key}: {size} of {len(rows)} rows cannot hold each of the {n_groups} labels on both sides; "
            "give more rows, or a larger or smaller part"
        )
    rarest, fewest = min(Counter(own).items(), key=lambda item: item[1])
    if fewest < 2:
        raise DataError(
            f"{key}: the label {rarest!r} has {fewest} row left, too few to be split; add rows of it or leave it out"
        )
    kept, off = train_test_split(rows, test_size=count, stratify=own, random_state=seed)
    return np.sort(kept), np.sort(off)
