"""Which rows go where: seeded, stratified, and never the same input in two splits. Pure functions on row numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split

from tledge.data.labels import Labels, Numbers
from tledge.errors import DataError


def input_numbers(digests: Sequence[npt.NDArray[np.uint64]]) -> list[Numbers]:
    """A number for each row of several tables, equal where the inputs' digests `(rows, 2) uint64` are."""
    both = np.concatenate(digests)
    order = np.lexsort((both[:, 1], both[:, 0]))
    ranked = both[order]
    is_new = np.concatenate([[0], (ranked[1:] != ranked[:-1]).any(axis=1)])
    numbers = np.empty(len(both), dtype=np.int64)
    numbers[order] = np.cumsum(is_new)
    return np.split(numbers, np.cumsum([len(each) for each in digests])[:-1])


def first_of_each(same: Numbers, labels: Labels) -> tuple[Numbers, int, list[tuple[int, int]]]:
    """The first row of each input, and what is left out.

    Args:
        same: a number for each row, the same for the same input.
        labels: the rows' labels.

    Returns:
        The rows that are kept, ascending; how many others have the same labels as the first row of their input; and
        those that have other labels, each with that first row.
    """
    _, first, inverse = np.unique(same, return_index=True, return_inverse=True)
    keeper = first[inverse]
    repeated = np.flatnonzero(keeper != np.arange(len(same)))
    pairs = ((int(row), int(keeper[row])) for row in repeated)
    conflicts = [(row, kept) for row, kept in pairs if labels.of(row) != labels.of(kept)]
    return np.sort(first), len(repeated) - len(conflicts), conflicts


def strata(labels: Labels) -> Numbers:
    """One stratum for each row: its label, the rarest of its labels, or -1 for a row without any."""
    result = np.full(len(labels), -1, dtype=np.int64)
    numbers, rows = labels.by_row()
    if numbers.size:
        # The last assignment stays, so the rarest labels come last.
        order = np.argsort(-np.bincount(numbers)[numbers], kind="stable")
        result[rows[order]] = numbers[order]
    return result


def deciles(values: npt.NDArray[np.float64], rows: Numbers, sizes: Sequence[float | int]) -> Numbers:
    """One stratum for each value: its tenth of the values of `rows`, or a larger part where a cut is too small for ten.

    Args:
        values: one for each row number.
        rows: the row numbers that will be cut.
        sizes: of the cuts, each a count, or a fraction of `rows`.
    """
    counts = [round(size * len(rows)) if isinstance(size, float) else size for size in sizes]
    n_parts = max(1, min(10, *counts, len(rows) - sum(counts)))
    edges = np.quantile(values[rows], np.linspace(0, 1, n_parts + 1)[1:-1])
    return np.searchsorted(np.unique(edges), values, side="right")


def cut(rows: Numbers, groups: Numbers, size: float | int, *, of: int, seed: int, key: str) -> tuple[Numbers, Numbers]:
    """The rows that stay and those cut off, stratified; the only row of a stratum stays.

    Args:
        rows: row numbers.
        groups: the stratum of every row number.
        size: a count, or a fraction of `of`.
        of: the number of rows that a fraction is taken of.
        seed: the same seed gives the same cut.
        key: the recipe's key, for messages.

    Raises:
        DataError: too few rows.
    """
    count = max(1, round(size * of)) if isinstance(size, float) else size
    asked = f"{key}: {size} of {of} rows is {count}" if isinstance(size, float) else f"{key}: asks for {count} rows"
    if count >= len(rows):
        raise DataError(f"{asked}, but there are {len(rows)}, and none would be left to train on; ask for fewer")
    _, inverse, sizes = np.unique(groups[rows], return_inverse=True, return_counts=True)
    divisible = sizes[inverse] >= 2
    pool, alone = rows[divisible], rows[~divisible]
    n_groups = int((sizes >= 2).sum())
    if count < n_groups:
        raise DataError(f"{asked}, too few to hold each of {n_groups} labels; ask for {n_groups} or more")
    if len(pool) - count < n_groups:
        raise DataError(f"{asked}, and too few of {len(rows)} rows would be left to train on; ask for fewer")
    kept, off = train_test_split(pool, test_size=count, stratify=groups[pool], random_state=seed)
    return np.sort(np.concatenate([kept, alone])), np.sort(off)


def cut_whole(
    rows: Numbers, strata: Numbers, together: Numbers, size: float | int, *, of: int, seed: int, key: str
) -> tuple[Numbers, Numbers]:
    """Like `cut`, but rows of one group stay together: about as many rows as asked for, as stratified as groups allow.

    Groups are taken in a random order, each if it brings the rows of each stratum nearer to their share of the cut.

    Args:
        rows: row numbers.
        strata: the stratum of every row number.
        together: the group of every row number.
        size: a count, or a fraction of `of`.
        of: the number of rows that a fraction is taken of.
        seed: the same seed gives the same cut.
        key: the recipe's key, for messages.

    Raises:
        DataError: too few groups, or too large ones.
    """
    count = max(1, round(size * of)) if isinstance(size, float) else size
    _, inverse = np.unique(strata[rows], return_inverse=True)
    missing = np.bincount(inverse) * (count / len(rows))
    _, group, sizes = np.unique(together[rows], return_inverse=True, return_counts=True)
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(sizes)[:-1])
    taken = np.zeros(len(rows), dtype=bool)
    for i in np.random.default_rng(seed).permutation(len(members)):
        found, counts = np.unique(inverse[members[i]], return_counts=True)
        if (counts * (counts - 2 * missing[found])).sum() < 0:  # the squared distance would shrink
            missing[found] -= counts
            taken[members[i]] = True
    if count >= len(rows) or taken.all() or not count / 2 <= taken.sum() <= count * 2:
        raise DataError(
            f"{key}: asks for about {count} of {len(rows)} rows, which whole groups do not come near: data.group has "
            f"{len(sizes)} here, the largest with {sizes.max()} rows; ask for another part, or give a file of "
            "your own"
        )
    return rows[~taken], rows[taken]


def draw(
    groups: Numbers, count: int, *, names: Sequence[str], seed: int, key: str, rows: Numbers | None = None
) -> Numbers:
    """So many rows of each label, ascending.

    Each label's rows are put into a random order of its own, of which the first ones stay: fewer rows are a part of
    those that more rows would be, and other labels change nothing.

    Args:
        groups: the label of every row number.
        count: rows of each label.
        names: of the labels.
        seed: the same seed gives the same rows.
        key: what asks for so many, for messages.
        rows: row numbers to draw from; by default all.

    Raises:
        DataError: a label has fewer rows.
    """
    rows = np.arange(len(groups)) if rows is None else rows
    kept = []
    for number, name in enumerate(names):
        own = rows[groups[rows] == number]
        if len(own) < count:
            there = np.bincount(groups[rows], minlength=len(names)).min()
            raise DataError(
                f"{key}: asks for {count} rows of each label, but {name!r} has {len(own)} that may train, after "
                f"validation, test and calibration rows are taken; ask for {there} or fewer, or give more rows of it"
            )
        kept.append(np.random.default_rng([seed, number]).permutation(own)[:count])
    return np.sort(np.concatenate(kept))


def cut_calibration(rows: Numbers, groups: Numbers, count: int, *, seed: int) -> tuple[Numbers, Numbers]:
    """Like `cut`, but drawn without strata when there are fewer rows asked for than labels.

    Raises:
        DataError: more rows are asked for than there are.
    """
    key = "data.calibration"
    try:
        return cut(rows, groups, count, of=len(rows), seed=seed, key=key)
    except DataError:
        if count >= len(rows):
            raise
    kept, off = train_test_split(rows, test_size=count, random_state=seed)
    return np.sort(kept), np.sort(off)
