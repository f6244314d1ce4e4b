"""Soft targets (Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network")."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

NEEDS = "logits"


def loss(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float,
    problem_type: str,
    targets: Tensor | None = None,  # noqa: ARG001
    scale: Tensor | None = None,
) -> Tensor:
    """How far each row's answer is from the teacher's, `(rows,) float32`.

    With one label a row (or one next token): `T^2 * KL(softmax(teacher / T) || softmax(student / T))`. With several
    labels a row each is a yes-or-no question of its own: `T^2` times the mean over labels of the divergence between the
    two answers' probabilities, `sigmoid(logit / T)`. For a regression the squared difference from the teacher's number.
    The factor `T^2` keeps gradients of the same size at every temperature.

    Args:
        student: `(rows, labels)`, float.
        teacher: `(rows, labels)`, float.
        temperature: T, above 0; has no meaning for a regression.
        problem_type: one of `PROBLEM_TYPES`.
        targets: not needed.
        scale: `(1,) float32`, what the difference of a regression is multiplied by first, as in `mse`; 1 when `None`.
    """
    return _DIVERGENCES[problem_type](student.float(), teacher.float(), temperature, scale)


def _of_one(ours: Tensor, theirs: Tensor, temperature: float, _: Tensor | None) -> Tensor:
    log_theirs = (theirs / temperature).log_softmax(dim=-1)
    log_ours = (ours / temperature).log_softmax(dim=-1)
    return temperature**2 * (log_theirs.exp() * (log_theirs - log_ours)).sum(dim=-1)


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
PROBLEM_TYPES = tuple(_DIVERGENCES)
