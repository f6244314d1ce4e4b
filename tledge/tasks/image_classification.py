"""Image classification: each image has exactly one label."""

from __future__ import annotations

from tledge.tasks._logits import HEAD, ROWS, RUN, records
from tledge.tasks._single_label import (
    LABEL_COLUMN,
    LOSS,
    LOSSES,
    METRIC,
    METRICS,
    NEEDS_LABEL,
    PROBLEM_TYPE,
    agree,
    decisions,
    decode,
    parse_label,
    score,
    targets,
)

__all__ = [
    "HEAD",
    "INPUT",
    "INPUT_COLUMN",
    "LABEL_COLUMN",
    "LOSS",
    "LOSSES",
    "METRIC",
    "METRICS",
    "NEEDS_LABEL",
    "OPTIMUM_TASK",
    "PROBLEM_TYPE",
    "ROWS",
    "RUN",
    "agree",
    "decisions",
    "decode",
    "parse_label",
    "records",
    "score",
    "targets",
]

INPUT = "image"
INPUT_COLUMN = "image"
OPTIMUM_TASK = "image-classification"
