"""A distillation from its first student to the table: the same for classifiers and for language models."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from tledge import artifacts, plugins, tasks
from tledge.artifacts import Contender, Gain, StudentCandidate, read_json, write_json
from tledge.bench.compare import Setting
from tledge.recipe.contradictions import DISTILLATION_LOSSES, HARD_LABELS
from tledge.recipe.schema import Distill, Shape, Student
from tledge.stages import student_costs
from tledge.stages.contenders import contender, gain
from tledge.stages.job import Job

TEACHER, ALONE = "teacher", "student alone"
TAUGHT, TAUGHT_FROM_CACHE = "student with teacher", "student with cached teacher"

EPOCHS = 3
COPIED_LEARNING_RATE = 1e-4
RANDOM_LEARNING_RATE = 1e-3
"""Of students that begin with weights of a trained model, and of those that begin with random ones."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a student is before its training: some of the teacher's layers, a shape, or another architecture."""

    name: str
    layers: tuple[int, ...] | None = None
    shape: Shape | None = None
    backbone: str | None = None


class Students(Protocol):
    """What differs between kinds of tasks: how a student begins, learns, is tested and kept."""

    teacher: Any
    start: Start

    def export_graph(self) -> Any:
        """Writes the graph of an untrained student, for the ladder; `None` for that of a classifier."""

    def make(self, seed: int) -> Any:
        """The student of `start` before its training; the same one for the same seed."""

    def teach(self, student: Any, *, with_teacher: bool, seed: int, folder: Path, phase: str) -> Any:
        """Train a student in place and give the `Fitted`; resumes in `folder`."""

    def facts(self) -> Mapping[str, Any]:
        """The losses with their weights, and the layer map, as `distill.json` has them."""

    def test(self, model: Any, who: str) -> dict[str, float]:
        """Metrics on the test rows, in torch."""

    def save(self, student: Any, folder: Path) -> None:
        """Write the student's checkpoint."""


@dataclass(slots=True)
class _Trainings:
    """Students of one kind, one for each seed so far."""

    metrics: list[dict[str, float]] = field(default_factory=list)
    fitted: list[Any] = field(default_factory=list)

    def row(self, name: str, parameters: int, seeds: list[int]) -> Contender:
        seconds = sum(each.seconds for each in self.fitted)
        return contender(name, parameters, seeds, self.metrics, seconds)


def distil(job: Job, folder: Path, students: Students) -> str:
    """Train the students that a recipe asks for, keep the first one that had the teacher, and write `distill.json`.

    Each is trained in a folder of its own and tested once, so that a stage that was killed goes on where it was.
    """
    settings = job.recipe.distill
    assert settings is not None
    started = time.monotonic()
    rungs = climb(job, folder, students) if settings.student.budget is not None else ()
    seeds = [job.recipe.seed + i for i in range(settings.seeds)]
    taught, alone = _Trainings(), _Trainings()
    parameters = 0
    for i, seed in enumerate(seeds):
        for trainings in (taught, alone) if settings.baseline else (taught,):
            student = students.make(seed)
            parameters = _parameters(student)
            own = _own(folder, students.start, seed, alone=trainings is alone)
            phase = _phase(trainings is taught, i, len(seeds))
            fitted = students.teach(student, with_teacher=trainings is taught, seed=seed, folder=own, phase=phase)
            trainings.fitted.append(fitted)
            trainings.metrics.append(_tested(students, student, own, phase))
            if i == 0 and trainings is taught:
                students.save(student, folder / "checkpoint")
    name = TAUGHT_FROM_CACHE if settings.teacher_cache else TAUGHT
    rows = [
        contender(
            TEACHER,
            _parameters(students.teacher),
            [job.recipe.seed],
            [_tested(students, students.teacher, folder)],
            0.0,
        ),
        taught.row(name, parameters, seeds),
    ]
    gains: list[Gain] = []
    if settings.baseline:
        rows.insert(1, alone.row(ALONE, parameters, seeds))
        gains = _gains(job.task, rows[2], rows[1])
    write_json(
        folder / "distill.json",
        {
            "student": students.start.name,
            "layers": students.start.layers,
            "teacher_parameters": _parameters(students.teacher),
            "parameters": parameters,
            "contenders": [artifacts.to_dict(row) for row in rows],
            "gains": [artifacts.to_dict(each) for each in gains],
            "ladder": [artifacts.to_dict(each) for each in rungs],
            "temperature": settings.temperature,
            "teacher_cache": settings.teacher_cache,
            "phases": [artifacts.to_dict(taught.fitted[0])],
            "alone_phases": [artifacts.to_dict(each) for each in alone.fitted[:1]],
            "notes": [],
            "seconds": time.monotonic() - started,
            **students.facts(),
        },
    )
    for each in folder.iterdir():  # what training resumes from
        if each.is_dir() and each.name != "checkpoint":
            shutil.rmtree(each)
    return _line(job.metric, rows, settings)


def start_of(student: Student, n_teacher: int) -> Start:
    """What a recipe says of its student; with a budget nothing is settled yet.

    Args:
        student: the recipe's `distill.student`.
        n_teacher: the teacher's blocks.

    Raises:
        ModelError: a layer is out of range.
    """
    from tledge import model

    if student.backbone is not None:
        return Start(student.backbone, backbone=student.backbone)
    if student.shape is not None:
        sizes = student.shape.model_dump(exclude_none=True)
        return Start(", ".join(f"{key} {value}" for key, value in sizes.items()), shape=student.shape)
    layers = model.student.choose_layers(student.layers, n_teacher) if student.budget is None else ()
    noun = "layer" if len(layers) == 1 else "layers"
    return Start(f"{noun} {', '.join(map(str, layers))} of the teacher's {n_teacher}", layers=layers)


def learning_rate(settings: Distill, start: Start) -> tuple[float, float | None, bool]:
    """A student's learning rate, the one that a range test begins at (`None` without), and whether it begins random."""
    random = start.shape is not None or settings.student.weights == "none"
    asked = settings.learning_rate
    rate = asked if isinstance(asked, float) else RANDOM_LEARNING_RATE if random else COPIED_LEARNING_RATE
    return rate, rate if asked == "auto" else None, random


def of_teacher(teacher: Any, start: Start, seed: int) -> Any:
    """A student of the teacher's own architecture: some of its layers, or random weights in another shape."""
    from tledge import model

    if start.layers is not None:
        return model.student.from_layers(teacher, start.layers)
    assert start.shape is not None
    return model.student.of_shape(teacher, start.shape, seed)


def climb(job: Job, folder: Path, students: Students) -> tuple[StudentCandidate, ...]:
    """Time the candidates of a budget untrained, and settle on the best one of those that fit.

    Where several are trained, that is the best one on the validation rows; its training is not done twice.

    Raises:
        TrainError: no candidate fits.
    """
    from tledge import model

    settings, at = job.recipe.distill, job.recipe.bench
    assert settings is not None
    budget = settings.student.budget
    assert budget is not None
    plans = model.student.candidates(students.teacher, budget, seed=job.recipe.seed)
    measured = student_costs.measure(
        plans,
        budget,
        export_to=folder,
        schemes=job.recipe.schemes,
        at=Setting(at.batch[0], job.recipe.bench_lengths[0], at.threads[0], at.provider),
        export_graph=students.export_graph(),
        duration_s=at.duration_s,
        progress=job.progress,
    )
    fitting = student_costs.fitting(measured, budget)
    starts = {plan.name: Start(plan.name, plan.layers, plan.shape, plan.backbone) for plan in plans}
    metrics: dict[str, float] = {}
    for each in fitting if len(fitting) > 1 else ():
        students.start = starts[each.name]
        own = _own(folder, students.start, job.recipe.seed, alone=False)
        student = students.make(job.recipe.seed)
        fitted = students.teach(
            student, with_teacher=True, seed=job.recipe.seed, folder=own, phase=f"distill {each.name}"
        )
        metrics[each.name] = fitted.best_metric
    better = min if job.lower_is_better else max
    chosen = better(metrics, key=lambda name: metrics[name]) if metrics else fitting[0].name
    students.start = starts[chosen]
    return tuple(_told(each, chosen, {f.name for f in fitting}, metrics) for each in measured)


def _told(
    candidate: StudentCandidate, chosen: str, trained: Collection[str], metrics: Mapping[str, float]
) -> StudentCandidate:
    """A candidate with what became of it."""
    name = candidate.name
    reason = candidate.reason
    if name == chosen:
        reason += "; the best one on the validation rows" if len(metrics) > 1 else "; the largest one that does"
    elif candidate.fits and name not in trained:
        reason += "; not trained, since larger ones do too"
    elif candidate.fits:
        reason += "; not the best one on the validation rows"
    return replace(candidate, trained=name in trained, chosen=name == chosen, metric=metrics.get(name), reason=reason)


def _own(folder: Path, start: Start, seed: int, *, alone: bool) -> Path:
    """Where one training of one student is kept until the stage is whole."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", start.name).strip("_")
    return folder / f"{name}_seed_{seed}{'_alone' * alone}"


def paired(settings: Distill, student_blocks: Sequence[Any], teacher_blocks: Sequence[Any]) -> Any:
    """Which block of the student learns from which of the teacher, as the recipe says or evenly spaced.

    A student of copied layers is paired evenly too: its last block speaks to the head, as the teacher's last one does.

    Raises:
        ModelError: the recipe's `layer_map` does not fit.
    """
    from tledge import model, train

    chosen = model.student.layer_map(settings.layer_map, len(student_blocks), len(teacher_blocks))
    return train.Pairing(tuple(student_blocks), tuple(teacher_blocks), chosen)


def learnt(job: Job, student: Any, teacher: Any, rows: Any, pairing: Any) -> dict[str, Any]:
    """The losses with their weights, and the layer map where one of them looks inside, as `distill.json` has them."""
    from tledge import train

    assert job.recipe.distill is not None
    weights = train.weights_for(
        job.recipe.distill,
        has_hidden=train.has_hidden(student, teacher, rows, pairing),
        cached=job.recipe.distill.teacher_cache,
        problem_type=job.task.PROBLEM_TYPE,
    )
    modules = [plugins.load(DISTILLATION_LOSSES, name) for name in weights if name != HARD_LABELS]
    inside = any(module.NEEDS != "logits" for module in modules)
    return {"losses": weights, "layer_map": list(pairing.layer_map) if inside else None}


def _phase(taught: bool, number: int, count: int) -> str:
    words = "distill" if taught else "alone"
    return f"{words} {number + 1} of {count}" if count > 1 else words


def _tested(students: Students, model: Any, folder: Path, who: str = TEACHER) -> dict[str, float]:
    """The test metrics, from the folder where they were written before."""
    path = folder / "test_metrics.json"
    if not path.exists():
        write_json(path, students.test(model, who))
    return dict(read_json(path))


def _gains(task: tasks.Task, taught: Contender, alone: Contender) -> list[Gain]:
    return [
        gain(metric, taught, alone, lower_is_better=tasks.lower_is_better(task, metric))
        for metric in task.METRICS
        if metric in taught.mean and metric in alone.mean
    ]


def _parameters(model: Any) -> int:
    return sum(p.numel() for p in model.parameters())


def _line(metric: str, rows: list[Contender], settings: Distill) -> str:
    seeds = f", mean of {settings.seeds} seeds" if settings.seeds > 1 else ""
    return f"test {metric} " + ", ".join(f"{row.mean[metric]:.3f} {row.name}" for row in rows) + seeds
