"""A distillation from its first student to the table: the same for classifiers and for language models."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tledge import artifacts, tasks
from tledge.artifacts import Contender, Gain, StudentCandidate, read_json, write_json
from tledge.recipe.schema import Distill
from tledge.stages.contenders import contender, gain
from tledge.stages.job import Job

TEACHER, ALONE = "teacher", "student alone"
TAUGHT, TAUGHT_FROM_CACHE = "student with teacher", "student with cached teacher"


class Course(Protocol):
    """What differs between kinds of tasks: how a student begins, learns, is tested and kept."""

    teacher: Any

    def choose(self, folder: Path) -> tuple[StudentCandidate, ...]:
        """Settle what the student is; where a budget does, the ladder of candidates, else nothing."""

    def facts(self) -> Mapping[str, Any]:
        """What `distill.json` says of the student and of what it learns."""

    def start(self, seed: int) -> Any:
        """A student before its training; the same one for the same seed."""

    def teach(self, student: Any, *, with_teacher: bool, seed: int, folder: Path, phase: str) -> Any:
        """Train a student in place and give the `Fitted`; resumes in `folder`."""

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


def lead(job: Job, folder: Path, course: Course) -> str:
    """Train the students that a recipe asks for, keep the first one that had the teacher, and write `distill.json`.

    Each is trained in a folder of its own and tested once, so that a stage that was killed goes on where it was.
    """
    settings = job.recipe.distill
    assert settings is not None
    started = time.monotonic()
    ladder = course.choose(folder)
    seeds = [job.recipe.seed + i for i in range(settings.seeds)]
    taught, alone = _Trainings(), _Trainings()
    parameters = 0
    for i, seed in enumerate(seeds):
        for trainings in (taught, alone) if settings.baseline else (taught,):
            student = course.start(seed)
            parameters = _parameters(student)
            own = folder / f"seed_{seed}{'_alone' if trainings is alone else ''}"
            phase = _phase(trainings is taught, i, len(seeds))
            fitted = course.teach(student, with_teacher=trainings is taught, seed=seed, folder=own, phase=phase)
            trainings.fitted.append(fitted)
            trainings.metrics.append(_tested(course, student, own, phase))
            if i == 0 and trainings is taught:
                course.save(student, folder / "checkpoint")
    name = TAUGHT_FROM_CACHE if settings.teacher_cache else TAUGHT
    rows = [
        contender(
            TEACHER, _parameters(course.teacher), [job.recipe.seed], [_tested(course, course.teacher, folder)], 0.0
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
            "teacher_parameters": _parameters(course.teacher),
            "parameters": parameters,
            "contenders": [artifacts.to_dict(row) for row in rows],
            "gains": [artifacts.to_dict(each) for each in gains],
            "ladder": [artifacts.to_dict(each) for each in ladder],
            "temperature": settings.temperature,
            "teacher_cache": settings.teacher_cache,
            "phases": [artifacts.to_dict(taught.fitted[0])],
            "alone_phases": [artifacts.to_dict(each) for each in alone.fitted[:1]],
            "notes": [],
            "seconds": time.monotonic() - started,
            **course.facts(),
        },
    )
    for each in folder.iterdir():  # what training resumes from
        if each.is_dir() and each.name != "checkpoint":
            shutil.rmtree(each)
    return _line(job.metric, rows, settings)


def _phase(taught: bool, number: int, count: int) -> str:
    words = "distill" if taught else "alone"
    return f"{words} {number + 1} of {count}" if count > 1 else words


def _tested(course: Course, model: Any, folder: Path, who: str = TEACHER) -> dict[str, float]:
    """The test metrics, from the folder where they were written before."""
    path = folder / "test_metrics.json"
    if not path.exists():
        write_json(path, course.test(model, who))
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
