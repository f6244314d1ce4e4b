"""The head of a task's models: a fresh one on a pretrained body, or the checkpoint's own. A task names its file.

Each module holds:

========  ===========================================================================================================
`train`   makes the model that a recipe describes and trains it as the strategy says
`students`  what differs in a distillation: how a student begins, learns, is tested and kept
========  ===========================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from tledge import plugins

if TYPE_CHECKING:
    from tledge.stages.distillation import Students
    from tledge.stages.job import Job
    from tledge.train import Fitted


@dataclass(frozen=True, slots=True)
class Trained:
    """A model after its training, what it was made of, and what each phase gave; no phase where it is taken as it is.

    `digest` is the SHA-256 of the weights before, and `save` writes the checkpoint and compares it with the model.
    """

    model: Any
    digest: str
    parameters: int
    trained_parameters: int
    unknown_tokens: float | None
    save: Callable[[Path], None]
    fitted: Sequence[Fitted] = ()
    notes: Sequence[str] = ()
    pooling: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)


class Head(Protocol):
    """What such a module provides; see the table above."""

    @staticmethod
    def train(job: Job, folder: Path, *, pretrained: bool = True) -> Trained: ...
    @staticmethod
    def students(job: Job, folder: Path) -> Students: ...


def load(name: str) -> Head:
    """The kind of head of that name."""
    return cast("Head", plugins.load(__name__, name))
