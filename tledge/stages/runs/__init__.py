"""How the models of a task are run: one pass, or one token after another. One file a kind, which a task names.

Each module holds:

============  =====================================================================================================
`export`      writes the fp32 graph, and compares it with torch
`open_run`    opens a graph for scoring
`timing`      what one timed run of a graph takes, and how that is told
`samples`     what the report shows that a graph wrote, which may be nothing
`reference`   the checkpoint in torch, for golden vectors; `None` where they have no other reference
`references`  what the graphs of a run are timed beside, by name and given a number of threads
`bench`       times a run's bundle
`benched`     one line about how fast a variant is
============  =====================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from tledge import plugins
from tledge.artifacts import BenchResult, Graph, ParityCase
from tledge.evaluate import Array, Run

if TYPE_CHECKING:
    from tledge.stages.job import Job


EAGER, TEACHER = "torch eager", "teacher in torch eager"
"""What graphs are timed beside."""


R = TypeVar("R")


def beside(run: Path, eager: Callable[[Path], R], teacher: Callable[[Path, Path], R]) -> dict[str, R]:
    """What a run's graphs are timed beside: the checkpoint in torch eager, and before a student its teacher.

    Args:
        run: the run folder.
        eager: of a checkpoint.
        teacher: of the teacher's checkpoint, and the student's.
    """
    trained, student = (run / stage / "checkpoint" for stage in ("train", "distill"))
    if not student.exists():
        return {EAGER: eager(trained)}
    return {TEACHER: teacher(trained, student), EAGER: eager(student)}


@dataclass(frozen=True, slots=True)
class Timing:
    """One timed run: tensors for a batch size and a length, that length (`None` where there is none), and its name."""

    feeds: Callable[..., Any]
    length: int | None
    told: str


@dataclass(frozen=True, slots=True)
class Exported:
    """A graph that was written: how it compares with torch, torch's own answers, and what is left to do with it.

    `finish` is called where the graph has passed, with the stage's folder, and gives the graph as it is then.
    """

    parity: tuple[ParityCase, ...]
    reference: Array
    finish: Callable[[Path], Graph]


class Runs(Protocol):
    """What such a module provides; see the table above."""

    @staticmethod
    def export(job: Job, path: Path) -> Exported: ...
    @staticmethod
    def open_run(graph: Path, *, exact: bool = False) -> Run: ...
    @staticmethod
    def timing(job: Job, graph: Graph, inputs_folder: Path) -> Timing: ...
    @staticmethod
    def samples(job: Job, graph: Path, inputs_folder: Path) -> Sequence[dict[str, str]]: ...
    @staticmethod
    def reference(job: Job) -> Run | None: ...
    @staticmethod
    def references(run: Path, shipped: Path) -> dict[str, Callable[[int], Any]]: ...
    @staticmethod
    def bench(job: Job) -> BenchResult: ...
    @staticmethod
    def benched(result: BenchResult, variant: str) -> str: ...


def load(name: str) -> Runs:
    """The kind of runs of that name."""
    return cast("Runs", plugins.load(__name__, name))
