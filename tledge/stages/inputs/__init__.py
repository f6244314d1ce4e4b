"""What the stages do for a kind of input alone: one file a kind, named as in `tledge.inputs`.

Each module holds:

=========  ============================================================================================================
`finish`   what becomes of an exported graph and of the preprocessing beside it, in the stage's folder; gives the graph
`facts`    what the report tells of the way to a tensor
`rows`     values and targets as the rows of a training
`windows`  how texts are cut into windows, as a checkpoint's `windows.json` says it; `None` where they are not
=========  ============================================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from tledge import plugins
from tledge.artifacts import Graph

if TYPE_CHECKING:
    from tledge.model import Rows
    from tledge.stages.job import Job


class Kind(Protocol):
    """What such a module provides; see the table above."""

    @staticmethod
    def finish(job: Job, encoder: Any, graph: Graph, values: Sequence[Any], folder: Path) -> Graph: ...
    @staticmethod
    def facts(encoder: Any) -> dict[str, Any]: ...
    @staticmethod
    def rows(job: Job, encoder: Any, values: Sequence[Any], targets: Any) -> Rows: ...
    @staticmethod
    def windows(job: Job) -> dict[str, Any] | None: ...


def load(name: str) -> Kind:
    """The kind of that name."""
    return cast("Kind", plugins.load(__name__, name))
