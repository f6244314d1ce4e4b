"""What all tasks share whose models give one row of logits for each example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from tledge.tasks import Outputs

__all__ = ["GENERATES", "HEAD", "NO_SCHEMES", "PER_TOKEN", "ROWS", "RUN", "STRATEGIES", "UNIT", "records"]

ROWS = "examples"
HEAD = "fresh"
RUN = "one_pass"
GENERATES = False
UNIT = "rows"
PER_TOKEN = False
STRATEGIES: tuple[str, ...] = ("probe", "partial", "full", "probe_then_full", "gradual", "none")
NO_SCHEMES: Mapping[str, str] = {}


def records(outputs: Outputs, inputs: Outputs) -> dict[str, npt.NDArray[Any]]:  # noqa: ARG001
    """The `logits` as they are, `(rows, labels) float32`."""
    return {"logits": outputs["logits"]}
