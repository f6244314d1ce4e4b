"""What all tasks share whose models give one row of logits for each example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from tledge.tasks import Outputs

__all__ = [
    "GENERATES", "HEAD", "NO_SCHEMES", "OUTPUT", "PER_TOKEN", "ROWS", "RUN", "STRATEGIES", "UNIT", "form", "joined",
    "records",
]  # fmt: skip

ROWS = "examples"
HEAD = "fresh"
RUN = "one_pass"
GENERATES = False
OUTPUT = "logits"
UNIT = "rows"
PER_TOKEN = False
STRATEGIES: tuple[str, ...] = ("probe", "partial", "full", "probe_then_full", "gradual", "none")
NO_SCHEMES: Mapping[str, str] = {}


def records(outputs: Outputs, inputs: Outputs) -> dict[str, npt.NDArray[Any]]:  # noqa: ARG001
    """The `logits` as they are, `(rows, labels) float32`."""
    return {"logits": outputs["logits"]}


def joined(records: Outputs, targets: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:  # noqa: ARG001
    """The records as they are: a row is one value."""
    return dict(records)


def form(columns: Sequence[str]) -> None:
    """None: all rows have an input and a label."""
