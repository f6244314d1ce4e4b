"""Rows of another domain: some without labels, to which a model is adapted, and some with labels, which judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt

from tledge.data import splits, stored, unlabelled
from tledge.data.sources import Source
from tledge.data.table import Table, read
from tledge.errors import DataError
from tledge.progress import Progress
from tledge.recipe.schema import Adapt, Data
from tledge.tasks import Task

TARGET, JUDGE = "target.arrow", "judge.arrow"
LEAST = 10
"""Rows of a domain, below which nothing can be told of it."""


@dataclass(frozen=True, slots=True)
class Domain:
    """The rows of another domain.

    `target` has the task's input columns and `row`, and `label` where `adapt.supervised` asks for a comparison with
    them; `judge` has `label` as the splits do, and is `None` where nothing judges.
    """

    target: datasets.Dataset
    judge: datasets.Dataset | None


def write(
    target: Source,
    judge: Source | None,
    settings: Data,
    adapt: Adapt,
    task: Task,
    *,
    known: set[bytes],
    labels: tuple[str, ...],
    seed: int,
    folder: Path,
    scratch: Path,
    progress: Progress,
) -> dict[str, int]:
    """Read the rows of the other domain, and give how many adapt, how many judge, and how many were left out.

    Rows whose input is among the labelled rows, or stands twice, are left out, and of those of the target the ones that
    judge, so that nothing is judged on what was learnt.

    Args:
        target: rows to adapt to.
        judge: rows that judge, where they are a source of their own.
        settings: the recipe's `data`.
        adapt: the recipe's `adapt`.
        task: names the columns and parses labels.
        known: 16 bytes of each input of the labelled rows.
        labels: those that the labelled rows have, in their order.
        seed: of the part of the target that judges.
        folder: takes `target.arrow` and `judge.arrow`.
        scratch: takes what is read before that.
        progress: shown while reading.

    Raises:
        DataError: a label is not known, a column is missing, or too few rows are left.
    """
    settings = settings.model_copy(update={"group": None, "where": {}})
    counts = {"left_out": 0}
    taken = set(known)
    if judge is not None:
        table = _labelled(judge, settings, task, labels, scratch / "judge.arrow", progress)
        rows = _new(table, taken)
        counts |= {"judge": len(rows), "left_out": len(table.labels) - len(rows)}
        _require(len(rows), "adapt.judge", judge)
        stored.write_rows(table, rows, task.INPUT_COLUMNS, folder / JUDGE)
    if not (adapt.supervised or isinstance(adapt.judge, float)):
        found = unlabelled.write_new(target, settings, task, taken, folder / TARGET, progress)
        _require(found, "adapt.target", target)
        return counts | {"target": found}
    table = _labelled(target, settings, task, labels, scratch / "target.arrow", progress)
    rows = _new(table, taken)
    counts["left_out"] += len(table.labels) - len(rows)
    _require(len(rows), "adapt.target", target)
    if isinstance(adapt.judge, float):
        groups = _strata(table, rows, adapt.judge)
        rows, judging = splits.cut(rows, groups, adapt.judge, of=len(rows), seed=seed, key="adapt.judge")
        counts["judge"] = len(judging)
        stored.write_rows(table, judging, task.INPUT_COLUMNS, folder / JUDGE)
    counts["target"] = len(rows)
    stored.write_rows(table, rows, task.INPUT_COLUMNS, folder / TARGET, labelled=adapt.supervised)
    return counts


def _labelled(
    source: Source, settings: Data, task: Task, labels: tuple[str, ...], path: Path, progress: Progress
) -> Table:
    """All rows of a source, with the labels that are known."""
    table = read(source, settings, task, known_labels=labels, path=path, progress=progress)
    return table if table.labels.are_values else table.ordered(labels)


def _new(table: Table, taken: set[bytes]) -> npt.NDArray[np.int64]:
    """The rows whose input is not taken yet, each once; theirs are taken then."""
    rows = []
    for i, digest in enumerate(table.digests):
        key = digest.tobytes()
        if key not in taken:
            taken.add(key)
            rows.append(i)
    return np.asarray(rows, dtype=np.int64)


def _strata(table: Table, rows: npt.NDArray[np.int64], size: float) -> npt.NDArray[np.int64]:
    if table.labels.are_values:
        return splits.deciles(table.labels.flat, rows, [size])
    return splits.strata(table.labels)


def _require(count: int, key: str, source: Source) -> None:
    if count >= LEAST:
        return
    has = f"{source.name} has {count or 'no'} {'row' if count == 1 else 'rows'} that the labelled rows do not have"
    hint = "; is it the same file?" if not count else ""
    raise DataError(f"{key}: {has}{hint}; expected {LEAST} or more of the other domain")


def open_domain(folder: Path) -> Domain:
    """What `write` wrote to a folder."""
    path = folder / JUDGE
    return Domain(
        datasets.Dataset.from_file(str(folder / TARGET)),
        datasets.Dataset.from_file(str(path)) if path.exists() else None,
    )
