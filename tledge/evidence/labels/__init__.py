"""What a report shows of answers: one file a kind of labels, named as in `tledge.data.labels`; each has `read`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, cast

from tledge import plugins
from tledge.tasks import Task


class Kind(Protocol):
    """What such a module provides."""

    @staticmethod
    def read(task: Task, metric: str, labels: tuple[str, ...], folder: Path) -> dict[str, Any]:
        """The fields of `report.Facts` that follow from the answers on the test rows in a run's folder."""
        ...


def load(name: str) -> Kind:
    """The kind of labels of that name."""
    return cast("Kind", plugins.load(__name__, name))
