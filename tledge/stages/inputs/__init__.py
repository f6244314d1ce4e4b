"""What the stages do for a kind of input alone: one file a kind, named as in `tledge.inputs`.

Each module holds:

========  ============================================================================================================
`finish`  what becomes of an exported graph and of the preprocessing beside it, in the stage's folder; gives the graph
`facts`   what the report tells of the way to a tensor
========  ============================================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from tledge import plugins
from tledge.artifacts import Graph

if TYPE_CHECKING:
    from tledge.stages.job import Job


class Kind(Protocol):
    """What such a module provides; see the table above."""

    @staticmethod
    def finish(job: Job, encoder: Any, graph: Graph, values: Sequence[Any], folder: Path) -> Graph: ...
    @staticmethod
    def facts(encoder: Any) -> dict[str, Any]: ...


def load(name: str) -> Kind:
    """The kind of that name."""
    return cast("Kind", plugins.load(__name__, name))
