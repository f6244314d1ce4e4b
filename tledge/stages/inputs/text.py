"""Texts, whose tokens are made outside of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tledge.artifacts import Graph
from tledge.stages.job import Job


def finish(job: Job, encoder: Any, graph: Graph, values: Sequence[Any], folder: Path) -> Graph:  # noqa: ARG001
    """The graph as it is."""
    return graph


def facts(encoder: Any) -> dict[str, Any]:  # noqa: ARG001
    """Nothing."""
    return {}
