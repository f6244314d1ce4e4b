"""From a recipe's sources to four splits on disk: read, map, drop duplicates, split, and say what was found."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import datasets
import numpy as np
import numpy.typing as npt

from tledge.artifacts import write_json
from tledge.data import domain, inputs, partition, splits, stored, unlabelled
from tledge.data.labels import listed
from tledge.data.labels import load as load_labels
from tledge.data.sources import Options, Source, only, open_source
from tledge.data.stored import SPLITS, DataReport, Splits, open_splits
from tledge.data.table import EXAMPLES, Table, read
from tledge.digest import sha256
from tledge.errors import DataError, did_you_mean
from tledge.progress import Progress, silent
from tledge.recipe.schema import Adapt, Data
from tledge.tasks import Task

N = TypeVar("N", int, float)

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def load(
    settings: Data,
    task: Task,
    *,
    seed: int,
    folder: Path,
    base: Path,
    calibration: int | None = None,
    adapt: Adapt | None = None,
    progress: Progress = silent,
) -> Splits:
    """Read the sources of a recipe, split them, and write the splits to a folder.

    Rows stay on disk: only labels and 16 bytes for each input are held in memory. Of training rows with the same input
    the first is kept; texts are the same when only white space or Unicode composition differs, and images when their
    size and RGB pixels are. Each image is decoded once, so that one that cannot be is found here.

    Args:
        settings: the recipe's `data`.
        task: names the columns and parses labels.
        seed: of the splits.
        folder: takes a file for each split and `data.json`.
        base: the folder that relative paths start from.
        calibration: how many calibration rows there are when `settings` does not say, `None` for none. They are at most
            a tenth of the training rows (or 8, where half of these are more), and fewer, or none, where a label would
            be left without any.
        adapt: the recipe's `adapt`, whose rows are read too.
        progress: shown while reading.

    Raises:
        DataError: what the user can mend about the rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with quiet(), tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as scratch:
        tables = _read(settings, task, Path(scratch), base, progress)
        train = tables["train"]
        same = dict(zip(tables, splits.input_numbers([each.digests for each in tables.values()]), strict=True))
        kept, duplicates, conflicts = splits.first_of_each(same["train"], train.labels)
        rows = {name: np.arange(len(table.labels)) for name, table in tables.items()} | {"train": kept}
        left = partition.without_overlap(
            rows, same, tables, settings.on_overlap, task.INPUT_COLUMNS[-1].replace("_", " ")
        )
        groups = {name: table.groups for name, table in tables.items() if table.groups is not None}
        if settings.group is not None:
            left = partition.without_overlap(
                left, groups, tables, settings.on_overlap, f"{settings.group} (data.group)"
            )
        parts = partition.parts(settings, left, tables, seed=seed, calibration=calibration)
        partition.assert_disjoint(parts, same)
        if groups:
            apart = parts if settings.group is not None else {"train": parts["train"]}
            partition.assert_disjoint(apart, groups, f"entry of {train.group}")
        stored.write(tables, parts, task.INPUT_COLUMNS, folder)
        n_unlabelled = _unlabelled(settings, task, tables, folder, base, progress)
        n_unlabelled += int((parts["train"] == stored.UNLABELLED).sum())
        of_domain = _domain(settings, adapt, task, tables, seed, folder, Path(scratch), base, progress) if adapt else {}
        rows_by_split, label_counts = _counted(tables, parts)
        sizes = _quantiles(train.sizes[parts["train"] == SPLITS.index("train")], int)
        skipped = sum((Counter(table.skipped) for table in tables.values()), Counter[str]())
        report = DataReport(
            labels=train.names,
            sources={name: tables.get(name, train).source for name in SPLITS},
            n_read={name: table.n_read for name, table in tables.items()},
            sha256={name: sha256(table.path) for name, table in tables.items() if table.path and table.path.is_file()},
            rows=rows_by_split,
            label_counts=label_counts,
            skipped=dict(skipped),
            skipped_examples=tuple(e for table in tables.values() for e in table.examples)[:EXAMPLES],
            duplicates=duplicates,
            conflicts=len(conflicts),
            conflict_examples=tuple(_conflict(train, *pair) for pair in conflicts[:EXAMPLES]),
            overlap_dropped=sum(len(rows[name]) - len(left[name]) for name in rows),
            repeated={name: len(of) - len(np.unique(of)) for name, of in same.items() if name != "train"},
            fingerprint=stored.fingerprint(tables, parts, train.names),
            target_quantiles=_target_quantiles(tables, parts) if train.labels.are_values else {},
            unlabelled=n_unlabelled,
            domain=of_domain,
            columns={
                name: settings.columns.get(name, name) for name in (*task.INPUT_COLUMNS, task.LABEL_COLUMN) if name
            },
            group=train.group,
            groups=_groups(parts, groups),
            n_moved=sum(table.n_moved for table in tables.values()),
            notes=dict(sum((Counter(table.notes) for table in tables.values()), Counter[str]())),
            label_ids={name: train.label_ids[name] for name in train.names if name in train.label_ids},
            read_as={name: f"{table.source} {table.read_as}" for name, table in tables.items() if table.read_as},
            **{inputs.load(task.INPUT).SIZES: sizes},
        )
        del tables, train  # their files are open until then
    write_json(folder / "data.json", report)
    return open_splits(folder)


def columns_of(settings: Data, known: Sequence[str], *, base: Path) -> list[str]:
    """Those of some columns of tasks that the training rows have, by the names that `data.columns` gives them.

    Raises:
        DataError: there is no such source, or `data.columns` names one that is not there or not known.
    """
    options = Options(settings.encoding, settings.delimiter, settings.download, settings.label_names, part="train")
    with quiet():
        source = open_source(settings.train, "data.train", options, base=base)
    for name, column in settings.columns.items():
        if name not in known:
            raise DataError(
                f"data.columns: {name!r} is no column of the task; it has {', '.join(known)}{did_you_mean(name, known)}"
            )
        if column not in source.columns:
            raise DataError(
                f"{source.name} has no column {column!r}; its columns are {listed(source.columns)}"
                f"{did_you_mean(column, source.columns)}; set data.columns.{name}"
            )
    return [name for name in known if settings.columns.get(name, name) in source.columns]


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
    if load_labels(task.LABELS).VALUES and settings.labels is not None:
        raise DataError("data.labels: a regression estimates a number and has no labels; remove the key")
    options = Options(settings.encoding, settings.delimiter, settings.download, settings.label_names)

    def table(name: str, reference: str, known: Sequence[str] | None) -> Table:
        source = open_source(reference, f"data.{name}", replace(options, part=name), base=base)
        source = only(source, settings.where, "data.where")
        return read(source, settings, task, known_labels=known, path=scratch / f"{name}.arrow", progress=progress)

    train = table("train", settings.train, settings.label_list)
    labels = _labels(settings.label_list, train, task)
    tables = {"train": train.ordered(labels)}
    for name, reference in (("validation", settings.validation), ("test", settings.test)):
        if isinstance(reference, str):
            tables[name] = table(name, reference, labels)
    renamed = frozenset[str]().union(*(each.renamed for each in tables.values()))
    unused = next((name for name in settings.label_names if name not in renamed), None)
    if unused is not None:
        raise DataError(f"data.label_names: no row has the label {unused!r}{did_you_mean(unused, train.names)}")
    return tables


def _unlabelled(
    settings: Data, task: Task, tables: Mapping[str, Table], folder: Path, base: Path, progress: Progress
) -> int:
    if settings.unlabelled is None:
        return 0
    source = _beside(settings, settings.unlabelled, "data.unlabelled", base)
    return unlabelled.write(source, settings, task, _known(tables), folder, progress)


def _domain(
    settings: Data,
    adapt: Adapt,
    task: Task,
    tables: Mapping[str, Table],
    seed: int,
    folder: Path,
    scratch: Path,
    base: Path,
    progress: Progress,
) -> dict[str, int]:
    target = only(_beside(settings, adapt.target, "adapt.target", base), adapt.where, "adapt.where")
    judge = _beside(settings, adapt.judge, "adapt.judge", base) if isinstance(adapt.judge, str) else None
    return domain.write(
        target,
        judge,
        settings,
        adapt,
        task,
        known=_known(tables),
        labels=tables["train"].names,
        seed=seed,
        folder=folder,
        scratch=scratch,
        progress=progress,
    )


def _known(tables: Mapping[str, Table]) -> set[bytes]:
    """16 bytes of each input."""
    return {digest.tobytes() for table in tables.values() for digest in table.digests}


def documents(settings: Data, task: Task, *, folder: Path, base: Path, progress: Progress) -> int:
    """Read `data.documents` for a task of one text, write them beside the splits, and give how many there are.

    Raises:
        DataError: what the user can mend about the file.
    """
    if settings.documents is None:
        return 0
    with quiet():
        source = _beside(settings, settings.documents, "data.documents", base)
        return unlabelled.write_documents(source, settings, task, folder, progress)


def _beside(settings: Data, reference: str, key: str, base: Path) -> Source:
    """A source of rows without labels."""
    options = Options(settings.encoding, settings.delimiter, settings.download, settings.label_names)
    return open_source(reference, key, options, base=base)


def _labels(given: Sequence[str] | None, train: Table, task: Task) -> tuple[str, ...]:
    """The labels in the order of the outputs: as given, or all that were found; numbers by value, if all are.

    There are none where rows have no label.
    """
    if not task.LABEL_COLUMN:
        return ()
    if train.labels.are_values:
        if np.ptp(train.labels.flat) == 0:
            raise DataError(
                f"{train.source}: each of {len(train.labels)} rows has the number {train.labels.flat[0]:g} in "
                f"{train.names[0]!r}: a regression needs different ones; look at data.columns.label"
            )
        return train.names
    if given is not None:
        labels = tuple(given)
    elif all(_NUMBER.fullmatch(name) for name in train.names):
        labels = tuple(sorted(train.names, key=lambda name: (float(name), name)))
    else:
        labels = tuple(sorted(train.names))
    if len(labels) < task.LEAST_LABELS:
        found = f"has only one label, {labels[0]!r}, in" if labels else "has no label in any of"
        is_folder = train.path is not None and train.path.is_dir() and task.LEAST_LABELS > 1
        hint = "give a folder with a subfolder for each label" if is_folder else "look at data.columns.label"
        needed = f"the task needs {'two' if task.LEAST_LABELS > 1 else 'one'}"
        raise DataError(f"{train.source} {found} {len(train.labels)} rows: {needed}; {hint}")
    return labels


def _counted(tables: Mapping[str, Table], parts: partition.Parts) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
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


def _groups(parts: partition.Parts, groups: Mapping[str, npt.NDArray[np.int64]]) -> dict[str, int]:
    """How many groups are in each split."""
    if not groups:
        return {}
    return {
        split: len(np.unique(np.concatenate([of[parts[name] == number] for name, of in groups.items()])))
        for number, split in enumerate(SPLITS)
    }


def _conflict(train: Table, row: int, kept: int) -> str:
    def named(index: int) -> str:
        one = train.labels.take(np.asarray([index]))
        found = one.flat.tolist() if one.are_values else dict.fromkeys(one.by_row()[0].tolist())
        names = [f"{value:g}" if one.are_values else train.names[value] for value in found]
        return f"{train.name(index)} ({', '.join(names) or 'no label'})"

    return f"{named(row)}, kept {named(kept)}"


def _target_quantiles(tables: Mapping[str, Table], parts: partition.Parts) -> dict[str, dict[str, float]]:
    """Quantiles of a regression's numbers in each split that has rows."""
    found = {}
    for number, split in enumerate(SPLITS):
        values = np.concatenate([table.labels.flat[parts[name] == number] for name, table in tables.items()])
        if values.size:
            found[split] = _quantiles(values, float)
    return found


def _quantiles(values: npt.NDArray[Any], of_type: Callable[[Any], N]) -> dict[str, N]:
    return {f"p{q}": of_type(np.percentile(values, q, method="nearest")) for q in (0, 5, 50, 95, 99, 100)}
