"""What the chosen variant finds in the place of hidden words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tledge.evidence.labels import no_label
from tledge.tasks import Task


def read(task: Task, metric: str, labels: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """What it found in some texts, where that is stored."""
    return no_label.read(task, metric, labels, folder) | {
        "hidden": True,
        "usage": 'each["masks"]',
        "scope": "It finds words that are likely after its training texts; what they say may be false.",
    }
