"""From a recipe's sources to four splits on disk: read, map, drop duplicates, split, and say what was found."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt

from tledge.artifacts import write_json
from tledge.data import splits, stored
from tledge.data.sources import Options, open_source
from tledge.data.stored import SPLITS, DataReport, Splits, open_splits
from tledge.data.table import EXAMPLES, Numbers, Table, read
from tledge.errors import DataError, did_you_mean
from tledge.progress import Progress, silent
from tledge.recipe.schema import Data
from tledge.tasks import Task

Parts = dict[str, npt.NDArray[np.int8]]

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def load(settings: Data, task: Task, *, seed: int, folder: Path, base: Path, progress: Progress = silent) -> Splits:
    """Read the sources of a recipe, split them, and write the splits to a folder.

    Rows stay on disk: only label numbers and 16 bytes for each text are held in memory. Of training rows with the same
    text the first is kept; texts are the same when only white space or Unicode composition differs.

    Args:
        settings: the recipe's `data`.
        task: names the columns and parses labels.
        seed: of the splits.
        folder: takes a file for each split and `data.json`.
        base: the folder that relative paths start from.
        progress: shown while reading.

    Raises:
        DataError: what the user can mend about the rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with quiet(), tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as scratch:
        tables = _read(settings, task, Path(scratch), base, progress)
        train = tables["train"]
        texts = dict(zip(tables, splits.text_numbers([each.digests for each in tables.values()]), strict=True))
        kept, duplicates, conflicts = splits.first_of_each(texts["train"], train.labels)
        rows = {name: np.arange(len(table.labels)) for name, table in tables.items()} | {"train": kept}
        left = _without_overlap(rows, texts, tables, settings.on_overlap)
        parts = _parts(settings, left, tables, seed)
        _assert_disjoint(parts, texts)
        stored.write(tables, parts, task.INPUT_COLUMN, folder)
        rows_by_split, label_counts = _counted(tables, parts)
        skipped = sum((Counter(table.skipped) for table in tables.values()), Counter[str]())
        report = DataReport(
            labels=train.names,
            sources={name: tables.get(name, train).source for name in SPLITS},
            n_read={name: table.n_read for name, table in tables.items()},
            sha256={name: _sha256(table.path) for name, table in tables.items() if table.path is not None},
            rows=rows_by_split,
            label_counts=label_counts,
            skipped=dict(skipped),
            skipped_examples=tuple(e for table in tables.values() for e in table.examples)[:EXAMPLES],
            duplicates=duplicates,
            conflicts=len(conflicts),
            conflict_examples=tuple(_conflict(train, *pair) for pair in conflicts[:EXAMPLES]),
            overlap_dropped=sum(len(rows[name]) - len(left[name]) for name in rows),
            repeated={name: len(of) - len(np.unique(of)) for name, of in texts.items() if name != "train"},
            fingerprint=stored.fingerprint(tables, parts, train.names),
            text_lengths=_quantiles(train.lengths[parts["train"] == SPLITS.index("train")]),
        )
        del tables, train  # their files are open until then
    write_json(folder / "data.json", report)
    return open_splits(folder)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the data sets library's own bars and notes off the screen for a while."""
    from datasets.utils import logging

    bars, level = datasets.are_progress_bars_disabled(), logging.get_verbosity()
    datasets.disable_progress_bars()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()


def _read(settings: Data, task: Task, scratch: Path, base: Path, progress: Progress) -> dict[str, Table]:
    """The training rows, and the user's own validation and test rows, with labels numbered alike."""
    options = Options(settings.encoding, settings.delimiter)

    def table(name: str, reference: str, known: Sequence[str] | None) -> Table:
        source = open_source(reference, f"data.{name}", options, base=base)
        return read(source, settings, task, known_labels=known, path=scratch / f"{name}.arrow", progress=progress)

    train = table("train", settings.train, settings.labels)
    labels = _labels(settings.labels, train)
    tables = {"train": train.ordered(labels)}
    for name, reference in (("validation", settings.validation), ("test", settings.test)):
        if isinstance(reference, str):
            tables[name] = table(name, reference, labels)
    renamed = frozenset[str]().union(*(each.renamed for each in tables.values()))
    unused = next((name for name in settings.label_names if name not in renamed), None)
    if unused is not None:
        raise DataError(f"data.label_names: no row has the label {unused!r}{did_you_mean(unused, train.names)}")
    return tables


def _labels(given: Sequence[str] | None, train: Table) -> tuple[str, ...]:
    """The labels in the order of the outputs: as given, or all that were found; numbers by value, if all are."""
    if given is not None:
        labels = tuple(given)
    elif all(_NUMBER.fullmatch(name) for name in train.names):
        labels = tuple(sorted(train.names, key=lambda name: (float(name), name)))
    else:
        labels = tuple(sorted(train.names))
    if len(labels) < 2:
        found = f"has only one label, {labels[0]!r}, in" if labels else "has no label in any of"
        raise DataError(
            f"{train.source} {found} {len(train.labels)} rows: classification needs two; look at data.columns.label"
        )
    return labels


def _without_overlap(
    rows: Mapping[str, Numbers], texts: Mapping[str, Numbers], tables: Mapping[str, Table], on_overlap: str
) -> dict[str, Numbers]:
    """The rows of each source whose text is in no source that is held out more: test, then validation, then train."""
    left = dict(rows)
    order = [name for name in ("train", "validation", "test") if name in tables]
    for i, name in enumerate(order):
        for other in order[i + 1 :]:
            shared = np.isin(texts[name][left[name]], texts[other][rows[other]])
            if shared.any() and on_overlap == "fail":
                raise DataError(_overlap(name, left[name][shared], other, texts, tables))
            left[name] = left[name][~shared]
    return left


def _overlap(name: str, shared: Numbers, other: str, texts: Mapping[str, Numbers], tables: Mapping[str, Table]) -> str:
    examples = []
    for row in shared[:3]:
        twin = np.flatnonzero(texts[other] == texts[name][row])[0]
        examples.append(f"{tables[name].name(row)} = {tables[other].name(twin)}")
    count = f"{len(shared)} {name} rows have" if len(shared) > 1 else f"1 {name} row has"
    return (
        f"{count} the text of a {other} row, such as {', '.join(examples)}; take them out of one file, "
        f"or set data.on_overlap: drop to leave them out of the {name} rows"
    )


def _parts(settings: Data, left: Mapping[str, Numbers], tables: Mapping[str, Table], seed: int) -> Parts:
    """For each row of each table the number of its split, -1 for one that is left out."""
    train, pool = tables["train"], left["train"]
    if not len(pool):
        raise DataError(f"no row of {train.source} is left to train on: each one is in the validation or test file")
    groups = splits.strata(train.labels)
    sizes: dict[str, float | int] = {
        name: size
        for name, size in (("test", settings.test), ("validation", settings.validation))
        if not isinstance(size, str)
    }
    _require_rows(train, pool, sizes)
    parts = {name: np.full(len(table.labels), -1, dtype=np.int8) for name, table in tables.items()}
    n_rows = len(pool)
    for name, size in sizes.items():
        pool, cut = splits.cut(pool, groups, size, of=n_rows, seed=seed, key=f"data.{name}")
        parts["train"][cut] = SPLITS.index(name)
    if settings.calibration:
        pool, cut = splits.cut_calibration(pool, groups, settings.calibration, seed=seed)
        parts["train"][cut] = SPLITS.index("calibration")
    parts["train"][pool] = SPLITS.index("train")
    for name in tables.keys() - {"train"}:
        if not len(left[name]):
            raise DataError(f"no row of {tables[name].source} is left for {name}: each one is in the test file too")
        parts[name][left[name]] = SPLITS.index(name)
    counts = train.labels.take(pool).counts(len(train.names))
    if not counts.all():
        raise DataError(
            f"the label {train.names[int(counts.argmin())]!r} has so few rows in {train.source} that none is left to "
            "train on; add rows of it, or take smaller parts for data.validation, data.test and data.calibration"
        )
    return parts


def _require_rows(train: Table, pool: Numbers, sizes: Mapping[str, object]) -> None:
    """Each label must have a row for each split that is taken from the training rows."""
    counts = train.labels.take(pool).counts(len(train.names))
    absent = np.flatnonzero(counts == 0)
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
            "label's rows, or give files of your own for data.validation and data.test"
        )


def _assert_disjoint(parts: Parts, texts: Mapping[str, Numbers]) -> None:
    """No text is in two splits; a row cannot be, since it has one number."""
    by_split = [
        np.unique(np.concatenate([texts[name][parts[name] == number] for name in parts]))
        for number in range(len(SPLITS))
    ]
    everything = np.concatenate(by_split)
    assert len(np.unique(everything)) == len(everything), "a text is in two splits"


def _counted(tables: Mapping[str, Table], parts: Parts) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """The rows of each split, and how many of them have each label."""
    names = tables["train"].names
    rows: dict[str, int] = {}
    labels: dict[str, dict[str, int]] = {}
    for number, split in enumerate(SPLITS):
        chosen = {name: np.flatnonzero(part == number) for name, part in parts.items()}
        counts = sum(tables[name].labels.take(of).counts(len(names)) for name, of in chosen.items())
        rows[split] = sum(len(of) for of in chosen.values())
        labels[split] = dict(zip(names, np.asarray(counts).tolist(), strict=True))
    return rows, labels


def _conflict(train: Table, row: int, kept: int) -> str:
    def named(index: int) -> str:
        names = [train.names[i] for i in train.labels.of(index)]
        return f"{train.name(index)} ({', '.join(names) or 'no label'})"

    return f"{named(row)}, kept {named(kept)}"


def _quantiles(lengths: npt.NDArray[np.int32]) -> dict[str, int]:
    return {f"p{q}": int(np.percentile(lengths, q, method="nearest")) for q in (0, 5, 50, 95, 99, 100)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
