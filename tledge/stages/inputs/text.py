"""Texts, whose tokens are made outside of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tledge.artifacts import Graph
from tledge.stages.job import Job

if TYPE_CHECKING:
    from tledge.model import Rows


def finish(job: Job, encoder: Any, graph: Graph, values: Sequence[Any], folder: Path) -> Graph:  # noqa: ARG001
    """The graph as it is."""
    return graph


def facts(encoder: Any) -> dict[str, Any]:  # noqa: ARG001
    """Nothing."""
    return {}


def rows(job: Job, encoder: Any, values: Sequence[Any], targets: Any) -> Rows:  # noqa: ARG001
    """The values as they are."""
    from tledge import model

    return model.Rows(values, targets)


def windows(job: Job) -> None:
    """None: texts are cut."""
