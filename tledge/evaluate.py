"""One scorer for torch, ONNX and the device: the same rows, the same encoding, the same metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tledge.progress import Progress, silent
from tledge.tasks import Task

Array = npt.NDArray[Any]
Run = Callable[[Mapping[str, Array]], dict[str, Array]]
"""One pass of a model: input tensors by name to output tensors by name."""


class Encoder(Protocol):
    """Raw inputs to input tensors; `tledge.inputs` holds the implementations."""

    def encode(self, values: Sequence[Any]) -> dict[str, Array]: ...


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The metrics of some rows, and the raw outputs and decisions they came from (first axis: rows).

    `decisions` is `None` where the task has none, as regression.
    """

    metrics: dict[str, float]
    outputs: dict[str, Array]
    decisions: Array | None


def score(
    run: Run,
    encoder: Encoder,
    values: Sequence[Any],
    targets: Array,
    task: Task,
    *,
    batch_size: int = 1,
    progress: Progress = silent,
    description: str = "Scoring",
) -> Evaluation:
    """Run a model over rows and score it.

    The default batch of one row is what a device does, and it matters: a dynamically quantized product takes its
    scale from the whole batch, so that an answer can depend on its neighbours.
    """
    parts: list[dict[str, Array]] = []
    with progress(description, total=len(values)) as advance:
        for start in range(0, len(values), batch_size):
            batch = values[start : start + batch_size]
            parts.append(run(encoder.encode(batch)))
            advance(len(batch))
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Evaluation(task.score(outputs, targets), outputs, task.decisions(outputs))
