"""Text embedding: a text becomes a vector, and texts that are alike become vectors that are near each other.

The model takes one text. A row of training and evaluation holds several, or one and a label; `tledge.tasks._related`
says in which forms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge.tasks import HIGHER, Outputs, _related
from tledge.tasks._cells import no_names as label_names
from tledge.tasks._cells import output_names
from tledge.tasks._cells import unchanged as renamed

__all__ = ["label_names", "output_names", "renamed"]

INPUT = "sentence"
INPUT_COLUMNS = ("text",)
LABELS = "relation"
LABEL_COLUMN = ""
NEEDS_LABEL = False
TAKES_FLAGS = False
METRIC = "spearman"
METRICS = {
    "spearman": HIGHER,
    "pearson": HIGHER,
    "mrr": HIGHER,
    **{f"recall_at_{k}": HIGHER for k in _related.RECALL_AT},
    "triplet_accuracy": HIGHER,
    "nearest_accuracy": HIGHER,
}
LOSS = "multiple_negatives"
LOSSES = ("multiple_negatives", "cosent", "cosine_regression", "triplet", "supervised_contrastive")
UNIT = "texts"
HAS_LENGTH = True
LAYERED = True
MIXES = False
STRATEGIES = ("probe", "partial", "full", "lora", "none")
NO_SCHEMES: Mapping[str, str] = {}
N_LABELS = range(1)
LEAST_LABELS = 0
PER_TOKEN = False
ROWS = "related"
HEAD = "embedding"
RUN = "vectors"
OUTPUT = "sentence_embedding"
GENERATES = False
SCHEMES = ("int8_dynamic", "fp16")
CALIBRATION_ROWS = 0
STARTER = "embedding"
BACKBONES = "text"
OPTIMUM_TASK = "feature-extraction"
PROBLEM_TYPE = "text_embedding"


def form(columns: Sequence[str]) -> _related.Form:
    """What rows with these columns are: pairs, triples, texts with a label, or texts alone."""
    return _related.form_of(columns)


def parse_label(
    cell: object,  # noqa: ARG001
    separator: str,  # noqa: ARG001
    decimal: str,  # noqa: ARG001
    given: Sequence[object] = (),  # noqa: ARG001
) -> tuple[str, ...]:
    """No label: what is told of texts is read as the form of the rows says."""
    return ()


def numbered(label: Sequence[str], names: Iterable[str]) -> list[int]:  # noqa: ARG001
    """None: there are no labels."""
    return []


def targets(labels: Sequence[Sequence[Any]], n_labels: int) -> npt.NDArray[np.int64]:  # noqa: ARG001
    """Nothing for each row, `(rows, 0) int64`: the form of the rows gives the targets."""
    return np.zeros((len(labels), 0), dtype=np.int64)


def decode(outputs: Outputs, labels: Sequence[str]) -> list[dict[str, Any]]:  # noqa: ARG001
    """One answer a text: its vector, named `embedding`."""
    return [{"embedding": row.astype(np.float64).round(8).tolist()} for row in outputs[OUTPUT]]


def records(outputs: Outputs, inputs: Outputs) -> dict[str, npt.NDArray[Any]]:  # noqa: ARG001
    """The vectors as they are, `(texts, size) float32`."""
    return {OUTPUT: outputs[OUTPUT]}


def joined(records: Outputs, targets: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Of vectors of the texts of all rows, what metrics need of each row; see `_related.judged`."""
    return _related.judged(records[OUTPUT], targets)


def predictions(records: Outputs) -> None:
    """None: vectors are nearer or further, and never simply the same."""


def agree(ours: Outputs, theirs: Outputs) -> None:
    """None, as for `predictions`."""


def score(records: Outputs, targets: npt.NDArray[Any]) -> dict[str, float]:  # noqa: ARG001
    """The metrics that joined records give: which those are depends on the form of the rows."""
    return _related.scores(records)


def most_frequent(train: npt.NDArray[Any], n_labels: int) -> dict[str, npt.NDArray[Any]]:  # noqa: ARG001
    """Nothing: no vector is the most frequent one."""
    return {}


def target_scale(targets: npt.NDArray[Any]) -> None:
    """None: vectors have no unit."""
