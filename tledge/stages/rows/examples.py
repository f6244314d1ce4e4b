"""Examples: a text or an image each, and what it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tledge import inputs
from tledge.answers import hashes_of
from tledge.evaluate import Array
from tledge.recipe import Recipe
from tledge.stages.job import Job
from tledge.stages.rows import Scored
from tledge.tables import annotated
from tledge.tasks import Task

if TYPE_CHECKING:
    from tledge.data import DataReport


def read(job: Job, folder: Path) -> str:
    """Read the sources and write the splits."""
    return read_as(job, job.task, folder)


def read_as(job: Job, task: Task, folder: Path) -> str:
    """Read the sources as those of a task, and write the splits."""
    from tledge import data

    splits = data.load(
        job.recipe.data,
        task,
        seed=job.recipe.seed,
        folder=folder,
        base=Path.cwd(),
        calibration=job.task.CALIBRATION_ROWS,
        adapt=job.recipe.adapt,
        progress=job.progress,
    )
    counts = {name: len(getattr(splits, name)) for name in ("train", "validation", "calibration", "test")}
    rows = ", ".join(f"{count} {name} rows" for name, count in counts.items() if count)
    what = (
        f"the number {splits.labels[0]!r}"
        if splits.report.target_quantiles
        else f"{len(splits.labels)} label{'' if len(splits.labels) == 1 else 's'}"
    )
    told = [what] if splits.labels else []
    n_groups = sum(splits.report.groups.values())
    grouped = [f"{n_groups} groups of {splits.report.group!r} kept whole"] if n_groups else []
    domain = splits.report.domain
    judging = f" and {domain['judge']} that judge" if "judge" in domain else ""
    adapting = [f"{domain['target']} rows of another domain{judging}"] if domain else []
    left_out = _left_out(splits.report, task.INPUT_COLUMNS[-1].replace("_", " "))
    return ", ".join([*told, rows, *grouped, *adapting, *left_out, *splits.report.read_as.values()])


def _left_out(report: DataReport, kind: str) -> Iterator[str]:
    """What became of the rows that are in no split, in a few words each."""
    if broken := sum(report.skipped.values()):
        yield f"{_rows(broken, 'broken')} left out"
    if report.n_moved:
        where = "its text" if report.n_moved == 1 else "their texts"
        yield f"{_rows(report.n_moved, 'more')} whose label stood elsewhere in {where}, and was taken for that"
    yield from (f"{count:,} {what}" for what, count in report.notes.items())
    if report.duplicates:
        yield f"{_rows(report.duplicates, 'repeated')} left out"
    if report.conflicts:
        example = report.conflict_examples[0]
        yield f"{_rows(report.conflicts, 'more')} left out whose {kind} has another label elsewhere (such as {example})"
    if report.overlap_dropped:
        yield f"{_rows(report.overlap_dropped, 'more')} left out whose {kind} is in a file held out"


def _rows(count: int, kind: str) -> str:
    return f"{count} {kind} {'row' if count == 1 else 'rows'}"


def scored(job: Job, split: str, inputs_folder: Path) -> Scored:
    """All rows of a split, as the preprocessing in a folder makes tensors of them."""
    from tledge import data

    splits, task = data.open_splits(job.stage("data")), job.task
    rows = getattr(splits, split)
    targets = task.targets(rows["label"], len(splits.labels))
    return Scored(data.inputs_of(rows, task), inputs.load(task.INPUT, inputs_folder), targets, of=len(rows))


def depends_on(recipe: Recipe) -> Iterable[tuple[Sequence[object], Sequence[str | None]]]:
    """The files of boxes behind a list of pictures, or behind the file that names their folders; rows to adapt to."""
    rows, adapt = recipe.data, recipe.adapt
    references = [each for each in (rows.train, rows.validation, rows.test) if isinstance(each, str)]
    roots = {root for each in references if (root := annotated.root_of(each)) is not None}
    if roots:
        yield (), [str(root) for root in sorted(roots)]
    if adapt is not None:
        judge = adapt.judge if isinstance(adapt.judge, str) else None
        settings = [adapt.target, adapt.judge, adapt.supervised, sorted(adapt.where.items())]
        yield settings, [adapt.target, judge]


def hashes(scored: Scored) -> Array:
    """Of each text or image file, `(rows,) uint64`."""
    return hashes_of(scored.values)


def files(folder: Path) -> list[str]:
    """The images that stay where they are, sorted."""
    from tledge import data

    return data.named_files(folder)
