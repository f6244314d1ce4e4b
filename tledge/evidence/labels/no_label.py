"""How the chosen variant of a language model goes on with texts, or what it finds in the place of hidden words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tledge import artifacts
from tledge.artifacts import read_json
from tledge.tasks import Task


def read(task: Task, metric: str, labels: tuple[str, ...], folder: Path) -> dict[str, Any]:  # noqa: ARG001
    """What it wrote or found, where that is stored."""
    from tledge.report import Sample

    path = folder / "quantize" / "samples.json"
    written = read_json(path) if path.exists() else []
    found = {"language": True, "samples": tuple(artifacts.from_dict(Sample, each) for each in written)}
    return found | (_WRITES if task.GENERATES else _FINDS)


_WRITES = {
    "scope": "It goes on with any text in the way that is likely after its training texts; what it says may be false.",
}
_FINDS = {
    "hidden": True,
    "usage": 'each["masks"]',
    "scope": "It finds words that are likely after its training texts; what they say may be false.",
}
