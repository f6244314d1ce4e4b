"""Soft targets (Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network")."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tledge.losses.answer_span import candidates

NEEDS = "logits"


def loss(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float,
    problem_type: str,
    targets: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    """How far each row's answer is from the teacher's, `(rows,) float32`.

    With one label a row (or one next token): `T^2 * KL(softmax(teacher / T) || softmax(student / T))`. With several
    labels a row each is a yes-or-no question of its own: `T^2` times the mean over labels of the divergence between the
    two answers' probabilities, `sigmoid(logit / T)`. For a regression the squared difference from the teacher's number.
    For the first and the last token of an answer it is the mean of both divergences, over the tokens that may be that.
    The factor `T^2` keeps gradients of the same size at every temperature.

    Args:
        student: `(rows, labels)`, float; for answers `(rows, sequence, 2)`.
        teacher: of the same shape.
        temperature: T, above 0; has no meaning for a regression.
        problem_type: one of `PROBLEM_TYPES`.
        targets: only needed for answers: those of `tledge.losses.answer_span`.
        scale: `(1,) float32`, what the difference of a regression is multiplied by first, as in `mse`; 1 when `None`.
    """
    student, teacher = student.float(), teacher.float()
    if targets is not None and student.ndim == 3:
        return _of_places(student, teacher, temperature, candidates(targets, student.shape[1]))
    return _DIVERGENCES[problem_type](student, teacher, temperature, scale)


def _of_one(ours: Tensor, theirs: Tensor, temperature: float, _: Tensor | None) -> Tensor:
    log_theirs = (theirs / temperature).log_softmax(dim=-1)
    log_ours = (ours / temperature).log_softmax(dim=-1)
    return temperature**2 * (log_theirs.exp() * (log_theirs - log_ours)).sum(dim=-1)


def _of_places(ours: Tensor, theirs: Tensor, temperature: float, allowed: Tensor) -> Tensor:
    kept = allowed.unsqueeze(-1)
    log_theirs, log_ours = (
        (each / temperature).masked_fill(~kept, -torch.inf).log_softmax(dim=1).masked_fill(~kept, 0)
        for each in (theirs, ours)
    )
    apart = (log_theirs.exp() * (log_theirs - log_ours)).masked_fill(~kept, 0).sum(dim=1)
    return temperature**2 * apart.mean(dim=-1)


def _of_several(ours: Tensor, theirs: Tensor, temperature: float, _: Tensor | None) -> Tensor:
    ours, theirs = ours / temperature, theirs / temperature
    yes = theirs.sigmoid() * (F.logsigmoid(theirs) - F.logsigmoid(ours))
    no = (-theirs).sigmoid() * (F.logsigmoid(-theirs) - F.logsigmoid(-ours))
    return temperature**2 * (yes + no).mean(dim=-1)


def _of_number(ours: Tensor, theirs: Tensor, _: float, scale: Tensor | None) -> Tensor:
    difference = ours - theirs if scale is None else (ours - theirs) * scale.to(ours.device)
    return difference.square().sum(dim=-1)


_DIVERGENCES = {
    "single_label_classification": _of_one,
    "token_classification": _of_one,
    "multi_label_classification": _of_several,
    "regression": _of_number,
    "causal_lm": _of_one,
}
PROBLEM_TYPES = (*_DIVERGENCES, "question_answering")
