"""From a recipe's sources to four splits on disk: read, map, drop duplicates, split, and say what was found."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import numpy as np

from tledge import artifacts
from tledge.artifacts import read_json, write_json
from tledge.data import splits
from tledge.data.sources import Options, open_source
from tledge.data.splits import Indices
from tledge.data.table import Table, read
from tledge.errors import DataError
from tledge.progress import Progress, silent
from tledge.recipe.schema import Data
from tledge.tasks import Task

SPLITS = ("train", "validation", "calibration", "test")


@dataclass(frozen=True, slots=True)
class DataReport:
    """What was read and what became of it.

    `sources` names the file of each split; `rows` and `label_counts` count each split. `skipped` counts broken rows by
    kind, with some `skipped_examples`. Of training rows with the same text only the first is kept: `duplicates` counts
    those left out with the same label, `conflicts` those with another. `overlap_dropped` counts training rows left out
    because the user's own validation or test file has their text, and `repeated` rows of such files whose text was
    there before. `text_lengths` has quantiles of the training texts, in characters.
    """

    labels: tuple[str, ...]
    sources: Mapping[str, str]
    rows: Mapping[str, int]
    label_counts: Mapping[str, Mapping[str, int]]
    skipped: Mapping[str, int]
    skipped_examples: tuple[str, ...]
    duplicates: int
    conflicts: int
    overlap_dropped: int
    repeated: int
    text_lengths: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Splits:
    """Four disjoint sets of rows on disk.

    Each has the task's input column, `label` (a list of label indices: one, or any number where the task has several)
    and `row` (where the row was). `labels` are in the order of the model's outputs.
    """

    train: datasets.Dataset
    validation: datasets.Dataset
    calibration: datasets.Dataset
    test: datasets.Dataset
    labels: tuple[str, ...]
    report: DataReport


def load(settings: Data, task: Task, *, seed: int, folder: Path, base: Path, progress: Progress = silent) -> Splits:
    """Read the sources of a recipe, split them, and write the splits to a folder.

    Args:
        settings: the recipe's `data`.
        task: names the columns and parses labels.
        seed: of the splits.
        folder: takes a folder for each split and `data.json`.
        base: the folder that relative paths start from.
        progress: shown while reading.

    Raises:
        DataError: what the user can mend about the rows.
    """
    datasets.disable_progress_bars()
    reading = folder / "reading"
    reading.mkdir(parents=True, exist_ok=True)
    options = Options(settings.encoding, settings.delimiter)

    def table(name: str, reference: str, known: Sequence[str] | None) -> Table:
        source = open_source(reference, f"data.{name}", options, base=base)
        return read(source, settings, task, known_labels=known, path=reading / f"{name}.arrow", progress=progress)

    train = table("train", settings.train, settings.labels)
    labels = _labels(settings.labels, train)
    own = {
        name: table(name, reference, labels)
        for name, reference in (("validation", settings.validation), ("test", settings.test))
        if isinstance(reference, str)
    }
    kept, duplicates, conflicts = splits.first_of_each(train.digests, train.labels)
    kept, dropped = _without_overlap(kept, train, own, settings.on_overlap)
    parts = _parts(settings, kept, train, seed)
    _require_all_labels(labels, parts["train"], train)
    result = {
        name: _write(own.get(name, train), parts.get(name), labels, folder / name)
        for name in SPLITS
        if name in own or len(parts[name])
    }
    result.setdefault("calibration", result["train"].select([]))
    report = DataReport(
        labels=labels,
        sources={name: own.get(name, train).source for name in SPLITS},
        rows={name: len(rows) for name, rows in result.items()},
        label_counts={name: _counts(rows, labels) for name, rows in result.items()},
        skipped=dict(sum((Counter(t.skipped) for t in (train, *own.values())), Counter())),
        skipped_examples=tuple(e for t in (train, *own.values()) for e in t.examples),
        duplicates=duplicates,
        conflicts=conflicts,
        overlap_dropped=dropped,
        repeated=sum(len(t.digests) - len(set(t.digests)) for t in own.values()),
        text_lengths=_lengths(result["train"], task.INPUT_COLUMN),
    )
    write_json(folder / "data.json", dataclasses.asdict(report))
    shutil.rmtree(reading)
    return Splits(**result, labels=labels, report=report)


def open_splits(folder: Path) -> Splits:
    """The splits that `load` wrote to a folder."""
    report = artifacts.from_dict(DataReport, read_json(folder / "data.json"))
    rows = {name: datasets.load_from_disk(str(folder / name)) for name in SPLITS if report.rows[name]}
    rows.setdefault("calibration", rows["train"].select([]))
    return Splits(**rows, labels=report.labels, report=report)


def _labels(given: Sequence[str] | None, train: Table) -> tuple[str, ...]:
    """The labels in the order of the outputs: as given, or all that were found, numbers by value and names by name."""
    found = Counter(name for row in train.labels for name in row)
    labels = tuple(given) if given else tuple(sorted(found, key=_by_value))
    if len(labels) < 2 and train.labels and max(map(len, train.labels)) <= 1:
        raise DataError(
            f"{train.source} has one label only, {labels[0]!r}, in {found[labels[0]]} rows; classification needs two: "
            "look at data.columns.label"
        )
    return labels


def _by_value(label: str) -> tuple[int, float, str]:
    try:
        return (0, float(label), label)
    except ValueError:
        return (1, 0.0, label)


def _without_overlap(kept: Indices, train: Table, own: Mapping[str, Table], on_overlap: str) -> tuple[Indices, int]:
    """The training rows whose text is in none of the user's own other files."""
    held_out = {key: (name, i) for name, table in own.items() for i, key in enumerate(table.digests)}
    if len(own) == 2:
        shared = set(own["validation"].digests) & set(own["test"].digests)
        if shared:
            i = next(i for i, key in enumerate(own["validation"].digests) if key in shared)
            raise DataError(
                f"{len(shared)} texts are in both data.validation and data.test, such as {own['validation'].name(i)}; "
                "take them out of one"
            )
    overlap = [int(i) for i in kept if train.digests[i] in held_out]
    if overlap and on_overlap == "fail":
        name, row = held_out[train.digests[overlap[0]]]
        raise DataError(
            f"{len(overlap)} training rows have the text of a held-out row, such as {train.name(overlap[0])} and "
            f"{own[name].name(row)}; take them out, or set data.on_overlap: drop"
        )
    gone = set(overlap)
    return np.asarray([i for i in kept if int(i) not in gone], dtype=np.int64), len(overlap)


def _parts(settings: Data, kept: Indices, train: Table, seed: int) -> dict[str, Indices]:
    """Row numbers of the training source for each split that is taken from it."""
    groups = splits.strata(train.labels)
    parts: dict[str, Indices] = {"calibration": np.empty(0, np.int64)}
    n_rows = len(kept)
    for name, size in (("test", settings.test), ("validation", settings.validation)):
        if not isinstance(size, str):
            count = round(size * n_rows) if isinstance(size, float) else size  # a fraction is one of all rows
            kept, parts[name] = splits.cut(kept, groups, count, seed, f"data.{name}")
    if settings.calibration:
        if settings.calibration >= len(kept):
            raise DataError(f"data.calibration: asks for {settings.calibration} rows, but {len(kept)} are left")
        chosen = np.random.default_rng(seed).permutation(len(kept))[: settings.calibration]
        parts["calibration"] = np.sort(kept[chosen])
        kept = np.delete(kept, chosen)
    parts["train"] = kept
    taken = np.concatenate(list(parts.values()))
    assert len(np.unique(taken)) == len(taken), "a row is in two splits"
    assert len({train.digests[i] for i in taken}) == len(taken), "a text is in two splits"
    return parts


def _require_all_labels(labels: Sequence[str], rows: Indices, train: Table) -> None:
    there = {name for i in rows for name in train.labels[i]}
    absent = [label for label in labels if label not in there]
    if absent:
        raise DataError(
            f"the label {absent[0]!r} has no training row in {train.source}; add rows of it, or leave it out of "
            "data.labels"
        )


def _write(table: Table, rows: Indices | None, labels: Sequence[str], folder: Path) -> datasets.Dataset:
    """Rows of a table (all when `None`) with their label indices, as an Arrow folder."""
    chosen = np.arange(len(table.labels)) if rows is None else rows
    index = {label: i for i, label in enumerate(labels)}
    column = [[index[name] for name in table.labels[i]] for i in chosen]
    part = table.rows.select(chosen)
    part = part.add_column("label", column, feature=datasets.List(datasets.Value("int64")))
    part.save_to_disk(str(folder))
    return datasets.load_from_disk(str(folder))


def _counts(rows: datasets.Dataset, labels: Sequence[str]) -> dict[str, int]:
    counts = Counter(i for row in rows["label"] for i in row)
    return {label: counts[i] for i, label in enumerate(labels)}


def _lengths(rows: datasets.Dataset, column: str) -> dict[str, float]:
    lengths = np.fromiter((len(text) for text in rows[column]), dtype=np.int64, count=len(rows))
    return {f"p{q}": float(np.percentile(lengths, q)) for q in (0, 5, 50, 95, 100)}
