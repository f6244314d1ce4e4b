"""How the chosen variant of a language model goes on with texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tledge import artifacts
from tledge.artifacts import read_json
from tledge.tasks import Task


def read(task: Task, metric: str, labels: tuple[str, ...], folder: Path) -> dict[str, Any]:  # noqa: ARG001
    """What it wrote, where that is stored."""
    from tledge.report import Sample

    path = folder / "quantize" / "samples.json"
    written = read_json(path) if path.exists() else []
    return {
        "language": True,
        "samples": tuple(artifacts.from_dict(Sample, each) for each in written),
        "scope": "It goes on with any text in the way that is likely after its training texts; what it says may be "
        "false.",
    }
