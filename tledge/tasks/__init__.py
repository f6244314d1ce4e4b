"""The tasks: one file a task, found by its name. Nothing here imports torch.

A task module holds these names, and `tests/contracts/test_tasks.py` puts each through the same checks:

======================  ===============================================================================================
`INPUT`                 the module of `tledge.inputs` that turns a row's input into tensors
`INPUT_COLUMNS`         the columns that hold the input, such as `text`
`LABELS`                the kind of labels: a module of `tledge.data.labels` and of `tledge.evidence.labels`
`LABEL_COLUMN`          the column that holds the label; empty where there is none
`NEEDS_LABEL`           whether a row without a label is broken
`TAKES_FLAGS`           whether labels may be columns of 0 and 1
`METRIC`                the metric that picks epochs and variants unless the recipe names another
`METRICS`               those of `score` that can, each with its direction: `HIGHER` or `LOWER` is better
`LOSS`                  the module of `tledge.losses` that trains it unless the recipe names another
`LOSSES`                those that can
`UNIT`                  what a row is called in plural, `rows` or `blocks`
`HAS_LENGTH`            whether an input is longer or shorter, in tokens
`LAYERED`               whether a student can be made of some of its teacher's layers
`MIXES`                 whether two rows can be blended, and their labels with them
`STRATEGIES`            those of `finetune.strategy` that can train it
`NO_SCHEMES`            schemes that its graphs cannot have, with why, in words
`ROWS`                  the module of `tledge.stages.rows` that reads its rows: `examples`, or `blocks` of tokens
`HEAD`                  the module of `tledge.stages.heads` that makes its models: with a `fresh` head, or their `own`
`GENERATES`             whether its models write text, one token after another
`OUTPUT`                the output of its models: `logits`, or the ecosystem's name of another one
`N_LABELS`              how many labels a model may have
`LEAST_LABELS`          how many there must be in the rows
`PER_TOKEN`             whether a model gives a row of logits for each token of an input, instead of one for the input
`RUN`                   the module of `tledge.stages.runs` that runs its models: `one_pass`, or `generation`
`SCHEMES`               the schemes that are tried unless the recipe names others
`CALIBRATION_ROWS`      how many rows are kept aside for schemes that calibrate, unless the recipe says
`BACKBONES`             whose backbones its models are made of: a key of `tledge.model.backbones.FAMILIES`
`STARTER`               which keys and which backbone a first recipe has: a key of the tables in `tledge.recipe.starter`
`OPTIMUM_TASK`          the ecosystem's name of the task, used for model classes and in `config.json`
`PROBLEM_TYPE`          the ecosystem's `problem_type` in `config.json`
`parse_label`           a raw cell, and the input's cells, to the labels of a row: names, a number as text, or spans
`renamed`               the same labels with other names
`label_names`           the names among the labels of a row
`numbered`              the labels of a row to their indices among all labels (or in a mapping); for a regression to the
                        number, and for spans each to index, start and end
`targets`               label indices (numbers) of rows to the array that metrics and losses take
`target_scale`          targets to the mean and standard deviation of their unit; `None` where they have none
`most_frequent`         training targets to the records of one row that answer with the most frequent label, or the mean
`output_names`          the labels to the names of a model's outputs
`decode`                raw outputs to one answer a row, as plain JSON types
`records`               raw outputs of a batch, with its inputs, to what is kept of each row: arrays by name, rows first
`predictions`           records, or what a model gives, to an array of the label(s) of each row; `None` for regression
`agree`                 whether two models' records decide the same, a truth value for each decision; `None` as above
`joined`                records of all values, and the targets, to those of rows, where a row has several values
`score`                 records of rows and targets to metrics
`form`                  what rows with these columns are, where that is not the same for all; else `None`
======================  ===============================================================================================

A few more names are for tasks that need them: `ONE_LABEL`, true where each row has exactly one label; `ZERO_SHOT`, how
its inputs are compared with descriptions of labels; `OPTIONS`, the options of a prediction, with `narrowed`, which
makes an answer as they want it; `distributions`, the probabilities of answers, where they have some; `BESIDE`, the
columns that complete a label; `require_outputs`, which refuses outputs of a model that are no answers, where those are
not one row of floats for each value or token; and `KEEP_FLOAT`, the layers that static quantization leaves in float
unless the recipe says, likely ones first.

What several tasks share stands in the modules that begin with `_`, and a task is the sum of its parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    INPUT_COLUMNS: tuple[str, ...]
    LABELS: str
    LABEL_COLUMN: str
    NEEDS_LABEL: bool
    TAKES_FLAGS: bool
    METRIC: str
    METRICS: Mapping[str, Direction]
    LOSS: str
    LOSSES: tuple[str, ...]
    ROWS: str
    HEAD: str
    RUN: str
    GENERATES: bool
    OUTPUT: str
    UNIT: str
    HAS_LENGTH: bool
    LAYERED: bool
    MIXES: bool
    STRATEGIES: tuple[str, ...]
    NO_SCHEMES: Mapping[str, str]
    N_LABELS: range
    LEAST_LABELS: int
    PER_TOKEN: bool
    SCHEMES: tuple[str, ...]
    CALIBRATION_ROWS: int
    BACKBONES: str
    STARTER: str
    OPTIMUM_TASK: str
    PROBLEM_TYPE: str

    @staticmethod
    def parse_label(cell: object, separator: str, decimal: str, given: Sequence[object] = ()) -> tuple[Any, ...]: ...
    @staticmethod
    def renamed(label: Sequence[Any], names: Mapping[str, str]) -> tuple[Any, ...]: ...
    @staticmethod
    def label_names(label: Sequence[Any]) -> tuple[str, ...]: ...
    @staticmethod
    def numbered(label: Sequence[Any], names: Iterable[str]) -> Sequence[float]: ...
    @staticmethod
    def targets(labels: Sequence[Sequence[Any]], n_labels: int) -> npt.NDArray[Any]: ...
    @staticmethod
    def target_scale(targets: npt.NDArray[Any]) -> tuple[float, float] | None: ...
    @staticmethod
    def most_frequent(train: npt.NDArray[Any], n_labels: int) -> dict[str, npt.NDArray[Any]]: ...
    @staticmethod
    def output_names(labels: Sequence[str]) -> tuple[str, ...]: ...
    @staticmethod
    def decode(outputs: Outputs, labels: Sequence[str]) -> list[dict[str, Any]]: ...
    @staticmethod
    def records(outputs: Outputs, inputs: Outputs) -> dict[str, npt.NDArray[Any]]: ...
    @staticmethod
    def predictions(records: Outputs) -> npt.NDArray[np.int64] | None: ...
    @staticmethod
    def agree(ours: Outputs, theirs: Outputs) -> npt.NDArray[np.bool_] | None: ...
    @staticmethod
    def joined(records: Outputs, targets: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]: ...
    @staticmethod
    def form(columns: Sequence[str]) -> Any: ...
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


def has_one_label(task: Task) -> bool:
    """Whether each row has exactly one label, so that rows can be counted by it: a task's `ONE_LABEL`."""
    return bool(getattr(task, "ONE_LABEL", False))


def zero_shot_methods(task: Task) -> tuple[str, ...]:
    """How its inputs are compared with descriptions of labels, the usual way first: a task's `ZERO_SHOT`."""
    found: tuple[str, ...] = getattr(task, "ZERO_SHOT", ())
    return found


def options(task: Task) -> tuple[str, ...]:
    """The options of a prediction that a task has beside those of language models: its `OPTIONS`."""
    found: tuple[str, ...] = getattr(task, "OPTIONS", ())
    return found


def keep_float(task: Task) -> tuple[str, ...] | None:
    """What static quantization leaves in float, likely ones first, a task's `KEEP_FLOAT`; `None` where it has none."""
    found: tuple[str, ...] | None = getattr(task, "KEEP_FLOAT", None)
    return found


def narrowed(task: Task, answer: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """An answer as the options of a prediction want it, which a task's `narrowed` knows."""
    if not options(task):
        return answer
    result: dict[str, Any] = cast("Any", task).narrowed(answer, **settings)
    return result


def has_distributions(task: Task) -> bool:
    """Whether a task's answers have probabilities, which its `distributions` gives."""
    return hasattr(task, "distributions")


def distributions(task: Task, outputs: Outputs) -> npt.NDArray[np.float64]:
    """How sure each answer is, `(rows, questions, answers)`: probabilities that sum to one over the answers.

    A row of one label has one question, whose answers are the labels; one of several has one for each label, whose
    answers are no and yes.
    """
    found: npt.NDArray[np.float64] = cast("Any", task).distributions(outputs)
    return found


def beside(task: Task) -> tuple[str, ...]:
    """The columns that complete a label where a row has them, such as where an answer begins; a task's `BESIDE`."""
    found: tuple[str, ...] = getattr(task, "BESIDE", ())
    return found


def label_cell(task: Task, cells: Mapping[str, Any], column: str) -> Any:
    """The raw cell of a row's label; of a text that has columns beside it a mapping of them, in which it is `text`."""
    cell = cells[column]
    others = {name: cells[name] for name in beside(task) if name in cells}
    return {"text": cell, **others} if others and isinstance(cell, str) else cell


def value_of(task: Task, row: Mapping[str, Any]) -> Any:
    """The input of a row: what its one column holds, or a tuple of what its columns hold."""
    cells = tuple(row[name] for name in task.INPUT_COLUMNS)
    return cells[0] if len(cells) == 1 else cells
