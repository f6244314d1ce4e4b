"""Decoupled knowledge distillation (Zhao et al. 2022): what is said of the target, and of all else, weighed apart."""

from __future__ import annotations

import torch
from torch import Tensor

NEEDS = "logits"
PROBLEM_TYPES = ("single_label_classification", "token_classification", "causal_lm")
ALPHA, BETA = 1.0, 8.0
"""Weights of the two parts, those that the paper takes for most pairs of networks."""


def loss(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float,
    problem_type: str,  # noqa: ARG001
    targets: Tensor | None = None,
    scale: Tensor | None = None,  # noqa: ARG001
) -> Tensor:
    """How far each row's answer is from the teacher's, `(rows,) float32`.

    `T^2 * (alpha * KL(b_teacher || b_student) + beta * KL(q_teacher || q_student))`, where `b` is the pair of the
    probabilities of the target and of all else at temperature T, and `q` the distribution over the labels that are not
    the target, which sums to 1 without it. Soft targets are the same sum with `1 - b_teacher(target)` for `beta`, which
    is next to nothing where the teacher is sure.

    Args:
        student: `(rows, labels)`, float, two labels or more.
        teacher: `(rows, labels)`, float.
        temperature: T, above 0.
        problem_type: one of `PROBLEM_TYPES`.
        targets: `(rows,) int64`, the label of each row.
        scale: not needed.
    """
    assert targets is not None
    (our_pair, our_rest), (their_pair, their_rest) = (
        _parts(logits.float() / temperature, targets) for logits in (student, teacher)
    )
    of_target = (their_pair.exp() * (their_pair - our_pair)).sum(dim=-1)
    difference = (their_rest - our_rest).masked_fill(_is_target(teacher, targets), 0.0)
    of_rest = (their_rest.exp() * difference).sum(dim=-1)
    return temperature**2 * (ALPHA * of_target + BETA * of_rest)


def _parts(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of `b`, `(rows, 2)`, and of `q`, `(rows, labels)`, which is -inf at the target."""
    target = logits.gather(1, targets[:, None])
    others = logits.masked_fill(_is_target(logits, targets), -torch.inf)
    rest = others.logsumexp(dim=-1, keepdim=True)
    return torch.cat([target, rest], dim=-1).log_softmax(dim=-1), others - rest


def _is_target(logits: Tensor, targets: Tensor) -> Tensor:
    return torch.zeros_like(logits, dtype=torch.bool).scatter_(1, targets[:, None], True)
