"""Distillation by relations (DIST, Huang et al. 2022): be correlated with the teacher, rather than equal to it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

NEEDS = "logits"
PROBLEM_TYPES = ("single_label_classification",)
INTER, INTRA = 1.0, 1.0


def loss(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float,
    problem_type: str,  # noqa: ARG001
    targets: Tensor | None = None,  # noqa: ARG001
    scale: Tensor | None = None,  # noqa: ARG001
) -> Tensor:
    """How little the student's answers go with the teacher's, `(rows,) float32`.

    `1 - r(student's row, teacher's row) + 1 - mean over labels of r(student's column, teacher's column)` with Pearson's
    correlation r of the probabilities `softmax(logits / T)`, which does not shrink as T grows, so that no factor makes
    up for it. The second part is about the rows of this batch together, and counts for each of them; a batch of one row
    has none.

    Args:
        student: `(rows, labels)`, float, two labels or more.
        teacher: `(rows, labels)`, float.
        temperature: T, above 0.
        problem_type: one of `PROBLEM_TYPES`.
        targets: not needed.
        scale: not needed.
    """
    ours, theirs = ((logits.float() / temperature).softmax(dim=-1) for logits in (student, teacher))
    apart = INTER * (1 - _correlation(ours, theirs))
    if len(ours) > 1:
        apart = apart + INTRA * (1 - _correlation(ours.T, theirs.T)).mean()
    return apart


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of each row of two matrices."""
    first, second = (each - each.mean(dim=-1, keepdim=True) for each in (first, second))
    return F.cosine_similarity(first, second, dim=-1, eps=1e-12)
