"""What every stage is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge import tasks
from tledge.progress import Progress, silent
from tledge.recipe import Recipe
from tledge.stages import heads, rows, runs
from tledge.stages.heads import Head
from tledge.stages.rows import Rows
from tledge.stages.runs import Runs


@dataclass(frozen=True, slots=True)
class Job:
    """One run: its recipe, its folder, who shows progress, and who is told about each stage in one line."""

    recipe: Recipe
    folder: Path
    progress: Progress = silent
    say: Callable[[str], None] = lambda line: None

    @property
    def task(self) -> tasks.Task:
        """What is learnt."""
        return tasks.load(self.recipe.task)

    @property
    def rows(self) -> Rows:
        """What its rows are."""
        return rows.load(self.task.ROWS)

    @property
    def runs(self) -> Runs:
        """How its models are run."""
        return runs.load(self.task.RUN)

    @property
    def head(self) -> Head:
        """How its models are made and trained."""
        return heads.load(self.task.HEAD)

    @property
    def metric(self) -> str:
        """The metric that picks epochs and variants."""
        return self.recipe.metric or self.task.METRIC

    @property
    def lower_is_better(self) -> bool:
        """Whether a smaller value of `metric` is the better one."""
        return tasks.lower_is_better(self.task, self.metric)

    def stage(self, name: str) -> Path:
        """The folder of a whole stage."""
        return self.folder / name

    @property
    def checkpoint(self) -> Path:
        """The checkpoint that is exported: the student's where one is distilled, else the one that was trained."""
        return self.stage("train" if self.recipe.distill is None else "distill") / "checkpoint"

    def first_values(self, split: str, count: int) -> Sequence[Any]:
        """The inputs of the first rows of a split."""
        from tledge import data

        rows = getattr(data.open_splits(self.stage("data")), split)
        return list(data.inputs_of(rows, self.task)[:count])
