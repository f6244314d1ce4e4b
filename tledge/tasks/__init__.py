"""The tasks: one file a task, found by its name. Nothing here imports torch.

A task module holds these names, and `tests/contracts/test_tasks.py` puts each through the same checks:

======================  ===============================================================================================
`INPUT`                 the module of `tledge.inputs` that turns a row's input into tensors
`INPUT_COLUMN`          the column that holds the input, such as `text`
`LABEL_COLUMN`          the column that holds the label
`NEEDS_LABEL`           whether a row without a label is broken
`METRIC`                the metric that picks epochs and variants unless the recipe names another
`METRICS`               those of `score` that can, each with its direction: `HIGHER` or `LOWER` is better
`LOSS`                  the module of `tledge.losses` that trains it unless the recipe names another
`LOSSES`                those that can
`ROWS`                  the module of `tledge.stages.rows` that reads its rows: `examples`, or `blocks` of tokens
`HEAD`                  the module of `tledge.stages.heads` that makes its models: with a `fresh` head, or their `own`
`RUN`                   the module of `tledge.stages.runs` that runs its models: `one_pass`, or `generation`
`OPTIMUM_TASK`          the ecosystem's name of the task, used for model classes and in `config.json`
`PROBLEM_TYPE`          the ecosystem's `problem_type` in `config.json`
`parse_label`           a raw cell to a tuple of label names (for regression: of one number)
`targets`               label indices (numbers) of rows to the array that metrics and losses take
`decode`                raw outputs to one answer a row, as plain JSON types
`records`               raw outputs of a batch, with its inputs, to what is kept of each row: arrays by name, rows first
`decisions`             records to an array that says which label(s) each row got; `None` for regression
`agree`                 whether two models' records decide the same, a truth value for each decision; `None` as above
`score`                 records and targets to metrics
======================  ===============================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from tledge import plugins

Outputs = Mapping[str, npt.NDArray[Any]]
Direction = Literal["higher", "lower"]
HIGHER: Direction = "higher"
LOWER: Direction = "lower"
"""Which values of a metric are the better ones."""


class Task(Protocol):
    """What a task module provides; see the table above."""

    INPUT: str
    INPUT_COLUMN: str
    LABEL_COLUMN: str
    NEEDS_LABEL: bool
    METRIC: str
    METRICS: Mapping[str, Direction]
    LOSS: str
    LOSSES: tuple[str, ...]
    ROWS: str
    HEAD: str
    RUN: str
    OPTIMUM_TASK: str
    PROBLEM_TYPE: str

    @staticmethod
    def parse_label(value: object, separator: str) -> tuple[str, ...]: ...
    @staticmethod
    def targets(labels: Sequence[Sequence[Any]], n_labels: int) -> npt.NDArray[Any]: ...
    @staticmethod
    def decode(outputs: Outputs, labels: Sequence[str]) -> list[dict[str, Any]]: ...
    @staticmethod
    def records(outputs: Outputs, inputs: Outputs) -> dict[str, npt.NDArray[Any]]: ...
    @staticmethod
    def decisions(records: Outputs) -> npt.NDArray[np.int64] | None: ...
    @staticmethod
    def agree(ours: Outputs, theirs: Outputs) -> npt.NDArray[np.bool_] | None: ...
    @staticmethod
    def score(records: Outputs, targets: npt.NDArray[Any]) -> dict[str, float]: ...


def load(name: str) -> Task:
    """The task of that name.

    Raises:
        RecipeError: there is no such task; the message lists the known ones.
    """
    return cast("Task", plugins.load("tledge.tasks", name))


def lower_is_better(task: Task, metric: str) -> bool:
    """Whether a smaller value of a metric is the better one, as of a loss."""
    return task.METRICS.get(metric) == LOWER
