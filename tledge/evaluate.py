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
    def answers(self, run: Run, values: Sequence[Any]) -> tuple[dict[str, Array], dict[str, Array]]: ...


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The metrics of some rows, and the task's records of them that they came from (first axis: rows)."""

    task: Task
    metrics: dict[str, float]
    records: dict[str, Array]

    def agree(self, other: Evaluation) -> npt.NDArray[np.bool_] | None:
        """Whether two evaluations of the same rows decide the same; `None` where the task has no predictions."""
        return self.task.agree(self.records, other.records)


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
    """Run a model over rows and score it; of each batch's outputs only the task's records are kept.

    The default batch of one row is what a device does, and it matters: a dynamically quantized product takes its
    scale from the whole batch, so that an answer can depend on its neighbours. There may be several values for each of
    `targets`, which the task's `joined` makes one row of.
    """
    parts: list[dict[str, Array]] = []
    with progress(description, total=len(values)) as advance:
        for start in range(0, len(values), batch_size):
            outputs, tensors = encoder.answers(run, values[start : start + batch_size])
            parts.append(task.records(outputs, tensors))
            advance(min(batch_size, len(values) - start))
    records = task.joined({name: joined([part[name] for part in parts]) for name in parts[0]}, targets)
    return Evaluation(task, task.score(records, targets), records)


def joined(arrays: Sequence[Array]) -> Array:
    """Arrays of rows one behind the other; where their further axes differ those are padded with -1 at the end.

    Args:
        arrays: `(rows, ...)` each.
    """
    longest = [max(sizes) for sizes in zip(*(each.shape[1:] for each in arrays), strict=True)]
    padding = ([(0, most - size) for most, size in zip(longest, each.shape[1:], strict=True)] for each in arrays)
    return np.concatenate(
        [np.pad(each, [(0, 0), *sides], constant_values=-1) for each, sides in zip(arrays, padding, strict=True)]
    )
