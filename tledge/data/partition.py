"""Which row of which source goes to which split: the user's own files first, then parts of the training rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tledge.data import splits
from tledge.data.labels import Numbers
from tledge.data.stored import SPLITS, UNLABELLED
from tledge.data.table import Table
from tledge.errors import DataError
from tledge.recipe.schema import Data

Parts = dict[str, npt.NDArray[np.int8]]

MANY = 3  # rows of a label on average, below which labels may be ids or numbers

LEAST_CALIBRATION = 8  # rows, by default


def without_overlap(
    rows: Mapping[str, Numbers], same: Mapping[str, Numbers], tables: Mapping[str, Table], on_overlap: str, kind: str
) -> dict[str, Numbers]:
    """The rows of each source whose input is in no source that is held out more: test, then validation, then train.

    Args:
        rows: row numbers by source.
        same: by source, a number for each of its rows that is the same for the same input.
        tables: by source.
        on_overlap: whether such rows `fail` or are dropped.
        kind: of input, for messages.

    Raises:
        DataError: there is such a row, and it must not.
    """
    left = dict(rows)
    order = [name for name in ("train", "validation", "test") if name in tables]
    for i, name in enumerate(order):
        for other in order[i + 1 :]:
            shared = np.isin(same[name][left[name]], same[other][rows[other]])
            if shared.any() and on_overlap == "fail":
                raise DataError(_overlap(name, left[name][shared], other, same, tables, kind))
            left[name] = left[name][~shared]
    return left


def _overlap(
    name: str, shared: Numbers, other: str, same: Mapping[str, Numbers], tables: Mapping[str, Table], kind: str
) -> str:
    examples = []
    for row in shared[:3]:
        twin = np.flatnonzero(same[other] == same[name][row])[0]
        examples.append(f"{tables[name].name(row)} = {tables[other].name(twin)}")
    count = f"{len(shared)} {name} rows have" if len(shared) > 1 else f"1 {name} row has"
    return (
        f"{count} the {kind} of a {other} row, such as {', '.join(examples)}; take them out of one file, "
        f"or set data.on_overlap: drop to leave them out of the {name} rows"
    )


def parts(
    settings: Data, left: Mapping[str, Numbers], tables: Mapping[str, Table], *, seed: int, calibration: int | None
) -> Parts:
    """For each row of each table the number of its split, `UNLABELLED` for one beyond `data.shots`, -1 if left out.

    Args:
        settings: the recipe's `data`.
        left: by source, the rows that may be used.
        tables: by source.
        seed: of the splits.
        calibration: calibration rows where `settings` does not say: a tenth of the training rows, if that is fewer.

    Raises:
        DataError: there are too few rows for that.
    """
    train, pool = tables["train"], left["train"]
    if not len(pool):
        raise DataError(f"no row of {train.source} is left to train on: each one is in the validation or test file")
    sizes: dict[str, float | int] = {
        name: size
        for name, size in (("test", settings.test), ("validation", settings.validation))
        if not isinstance(size, str)
    }
    _require_rows(train, pool, sizes)
    if train.labels.are_values:
        groups = splits.deciles(train.labels.flat, pool, list(sizes.values()))
    else:
        groups = splits.strata(train.labels)
    numbers = {name: np.full(len(table.labels), -1, dtype=np.int8) for name, table in tables.items()}
    n_rows = len(pool)
    for name, size in sizes.items():
        pool, cut = _cut(train, pool, groups, size, of=n_rows, seed=seed, key=f"data.{name}")
        numbers["train"][cut] = SPLITS.index(name)
    if settings.calibration is None:
        pool, cut = _default_calibration(train, pool, groups, calibration or 0, seed)
    elif settings.calibration:
        pool, cut = _cut_calibration(train, pool, groups, settings.calibration, seed)
    else:
        cut = pool[:0]
    numbers["train"][cut] = SPLITS.index("calibration")
    if settings.shots is not None:
        numbers["train"][pool] = UNLABELLED
        pool = splits.draw(groups, settings.shots, names=train.names, seed=seed, key="data.shots", rows=pool)
    numbers["train"][pool] = SPLITS.index("train")
    for name in tables.keys() - {"train"}:
        if not len(left[name]):
            raise DataError(f"no row of {tables[name].source} is left for {name}: each one is in the test file too")
        numbers[name][left[name]] = SPLITS.index(name)
    counts = train.labels.take(pool).counts(len(train.names))
    if not counts.all():
        raise DataError(
            f"the label {train.names[int(counts.argmin())]!r} has so few rows in {train.source} that none is left to "
            "train on; add rows of it, or take smaller parts for data.validation, data.test and data.calibration"
        )
    return numbers


def _default_calibration(
    train: Table, pool: Numbers, groups: Numbers, asked: int, seed: int
) -> tuple[Numbers, Numbers]:
    """Like `splits.cut_calibration`, but for as many rows as can be spared, which may be none."""
    count = min(asked, max(LEAST_CALIBRATION, len(pool) // 10), len(pool) // 2)
    while count > 0:
        try:
            kept, cut = _cut_calibration(train, pool, groups, count, seed)
        except DataError:  # no choice of whole groups gives so few
            return pool, pool[:0]
        if train.labels.take(kept).counts(len(train.names)).all():
            return kept, cut
        count //= 2
    return pool, pool[:0]


def _cut(
    train: Table, pool: Numbers, strata: Numbers, size: float | int, *, of: int, seed: int, key: str
) -> tuple[Numbers, Numbers]:
    """The rows that stay and those cut off, whole groups where there are some."""
    if train.groups is None:
        return splits.cut(pool, strata, size, of=of, seed=seed, key=key)
    return splits.cut_whole(pool, strata, train.groups, size, of=of, seed=seed, key=key)


def _cut_calibration(train: Table, pool: Numbers, strata: Numbers, count: int, seed: int) -> tuple[Numbers, Numbers]:
    if train.groups is None:
        return splits.cut_calibration(pool, strata, count, seed=seed)
    key = "data.calibration"
    return splits.cut_whole(pool, strata, train.groups, count, of=len(pool), seed=seed, key=key)


def _require_rows(train: Table, pool: Numbers, sizes: Mapping[str, object]) -> None:
    """Each label must have a row for each split that is taken from the training rows."""
    counts = train.labels.take(pool).counts(len(train.names))
    absent = np.flatnonzero(counts == 0)
    if absent.size and train.labels.counts(len(train.names))[absent[0]]:
        raise DataError(
            f"the label {train.names[absent[0]]!r} keeps none of its rows in {train.source}: each of them is equal to "
            "an earlier row, of the same or another label, or to one that is held out; look at what stands in the "
            "input's column"
        )
    if absent.size:
        raise DataError(
            f"the label {train.names[absent[0]]!r} has no training rows in {train.source}; add rows of it, or leave it "
            "out of data.labels"
        )
    few = np.flatnonzero(counts <= len(sizes))
    if few.size:
        count, more = int(counts[few[0]]), len(few) - 1
        raise DataError(
            f"the label {train.names[few[0]]!r} has {count} {'row' if count == 1 else 'rows'} in {train.source}"
            f"{f' (and {more} more labels have too few)' if more else ''}; splitting it into train"
            f"{''.join(f', {name}' for name in sizes)} takes {len(sizes) + 1} of each label: add rows, remove the "
            f"label's rows, or give files of your own for data.validation and data.test{_many(train)}"
        )


def _many(train: Table) -> str:
    """A hint where there are about as many labels as rows."""
    if len(train.names) * MANY < len(train.labels) or len(train.names) < MANY:
        return ""
    try:
        any(float(name.replace(",", ".")) for name in train.names)
        kind = "numbers: is this a regression"
    except ValueError:
        kind = "ids: is this the column of labels"
    return f" ({len(train.names)} labels in {len(train.labels)} rows look like {kind}?)"


def assert_disjoint(parts: Parts, same: Mapping[str, Numbers], what: str = "input") -> None:
    """No input, or other `what`, is in two splits; a row cannot be, since it has one number."""
    by_split = [
        np.unique(np.concatenate([same[name][parts[name] == number] for name in parts]))
        for number in range(len(SPLITS))
    ]
    everything = np.concatenate(by_split)
    assert len(np.unique(everything)) == len(everything), f"an {what} is in two splits"
