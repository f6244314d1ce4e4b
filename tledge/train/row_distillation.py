"""A student with its teacher, as one module that trains: rows with logits in, what is compared out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tledge import plugins
from tledge.recipe.schema import Distill
from tledge.train.intermediate import LOSSES, Heard, Inside, listening
from tledge.train.objective import Loss, Objective, of_tokens, one_for_each_token, supervised
from tledge.train.plan import Sets
from tledge.train.teacher import Teacher

HARD_LABELS = "hard_labels"
OF_TEACHER = "teacher_"
"""What the names of a batch's tensors begin with that are for the teacher alone."""


def own_inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the student reads of a batch."""
    beside = ("labels", "labelled")
    return {name: each for name, each in batch.items() if name not in beside and not name.startswith(OF_TEACHER)}


def teacher_inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the teacher reads of a batch: its own tensors where there are some, else the student's."""
    theirs = {
        name.removeprefix(OF_TEACHER): each
        for name, each in batch.items()
        if name.startswith(OF_TEACHER) and name != "teacher_logits"
    }
    return theirs or own_inputs(batch)


class Distillation(nn.Module):
    """A student that answers beside its teacher, on the very same rows.

    In training it gives the student's `logits`, `teacher_logits`, `labelled` where the batch has it, and `inside`: for
    each loss on what lies inside of the models one value a row. In eval mode it gives the student's `logits` alone, and
    so it does in training where there is no teacher.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module | None = None, inside: Inside | None = None) -> None:
        super().__init__()
        self.student = student
        self.inside = inside
        self.teacher = None if teacher is None else Teacher(teacher)

    def forward(self, **batch: Tensor) -> dict[str, Any]:
        """What is compared; see the class.

        Args:
            batch: the student's inputs; `teacher_*` inputs where the teacher reads others, or its `teacher_logits`,
                `(batch, labels) float32`, so that it need not run; `labelled`, `(batch,) bool`, where rows have no
                label.
        """
        if not self.training:
            return {"logits": self.student(**own_inputs(batch))["logits"]}
        with listening(self.inside.student_places if self.inside is not None else {}) as ours:
            result: dict[str, Any] = dict(self.student(**own_inputs(batch)))
        if "labelled" in batch:
            result["labelled"] = batch["labelled"]
        if self.teacher is None:
            return result
        if "teacher_logits" in batch:
            return result | {"teacher_logits": batch["teacher_logits"]}
        return result | self._taught(self.teacher, ours, batch)

    def _taught(self, teacher: Teacher, ours: Heard, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        if self.inside is None:
            return {"teacher_logits": teacher(teacher_inputs(batch))["logits"]}
        with listening(self.inside.teacher_places) as theirs:
            answer = teacher(teacher_inputs(batch))
        inside = self.inside(ours, theirs, batch.get("attention_mask"))
        return {"teacher_logits": answer["logits"], "inside": inside}


@dataclass(frozen=True, slots=True)
class RowTargets:
    """Rows that have an answer each.

    `hard_loss` is a function of `tledge.losses`, and `label_weights` are `(labels,) float32`, or `None`; for a
    regression its scale, `(1,) float32`.
    """

    problem_type: str
    hard_loss: Loss
    label_weights: Tensor | None = None

    def too_different(self, ours: int, theirs: int) -> str:
        """That both answer with other numbers of outputs, in words."""
        return f"the student answers with {ours} numbers a row and the teacher with {theirs}"

    def module(
        self,
        student: nn.Module,
        teacher: nn.Module | None,
        inside: Inside | None,
        weights: Mapping[str, float],  # noqa: ARG002
        settings: Distill,  # noqa: ARG002
        sample: Mapping[str, Tensor],  # noqa: ARG002
    ) -> nn.Module:
        """Both beside each other."""
        return Distillation(student, teacher, inside)

    def objective(self, weights: Mapping[str, float], settings: Distill, sets: Sets) -> Objective:
        """The loss of the labels, and of the teacher's answers."""
        mixed = sets.mix is not None
        share = sets.labelled_share
        smoothing = settings.label_smoothing
        hard = supervised(self.hard_loss, label_weights=self.label_weights, label_smoothing=smoothing, mixed=mixed)
        return distillation_loss(
            weights,
            hard,
            temperature=settings.temperature,
            problem_type=self.problem_type,
            scale=self.label_weights,
            labelled_share=share**2 if mixed else share,  # of a pair both need a label
        )


def distillation_loss(
    weights: Mapping[str, float],
    hard: Objective,
    *,
    temperature: float,
    problem_type: str,
    scale: Tensor | None = None,
    labelled_share: float = 1.0,
) -> Objective:
    """The weighted sum of what is learnt from the teacher, a mean over rows, and from the labels.

    Where no teacher has answered, in evaluation and for a student alone, the loss of the labels is all there is.

    Args:
        weights: of the losses by name.
        hard: the loss against the labels; rows without one are left out of it, and it is a mean over the others.
        temperature: of the losses on logits.
        problem_type: of the task.
        scale: what a regression's differences are multiplied by, `(1,) float32`.
        labelled_share: the share of the training rows that have a label.
    """
    taught = [
        (name, weight, plugins.load(LOSSES, name)) for name, weight in weights.items() if weight and name != HARD_LABELS
    ]

    def compute(outputs: Mapping[str, Any], labels: Tensor, n_items: int | Tensor | None) -> Tensor:
        theirs = outputs.get("teacher_logits")
        n_elements: int | Tensor = labels.numel() if n_items is None else n_items
        n_rows = n_elements / labels.shape[1] if labels.ndim == 2 else n_elements
        counts = None
        if one_for_each_token(outputs, labels):
            inside = {name: outputs[name] for name in ("inside",) if name in outputs}
            counts, n_texts = labels.flatten() >= 0, len(labels)
            tensors = {name: each for name, each in outputs.items() if name != "inside"}
            flat, labels, n_elements = of_tokens(tensors, labels, n_items)
            outputs = {**flat, **inside}
            theirs = flat.get("teacher_logits")
            n_rows = n_elements * n_texts / counts.sum().clamp(min=1)
        weight = 1.0 if theirs is None else weights.get(HARD_LABELS, 0.0)
        total = outputs["logits"].new_zeros((), dtype=torch.float32)
        if weight:
            total = total + weight * _of_labels(hard, outputs, labels, n_elements, labelled_share)
        if theirs is None:
            return total
        options: dict[str, Any] = {"temperature": temperature, "problem_type": problem_type, "scale": scale}
        for name, share, module in taught:
            if module.NEEDS == "logits":
                targets = _targets(labels, theirs, outputs.get("labelled"))
                values = module.loss(outputs["logits"], theirs, targets=targets, **options)
                if counts is not None:
                    values = values * counts
                total = total + share * values.sum() / (n_rows if counts is None else n_elements)
            else:
                total = total + share * outputs["inside"][name].sum() / n_rows
        return total

    return compute


def _of_labels(
    hard: Objective, outputs: Mapping[str, Any], labels: Tensor, n_elements: int | Tensor, labelled_share: float
) -> Tensor:
    """The loss of rows that have a label, divided by how many of them so many elements have on average."""
    labelled = outputs.get("labelled")
    if labelled is None:
        return hard(outputs, labels, n_elements)
    kept = {name: outputs[name][labelled] for name in ("logits", "aux_logits") if name in outputs}
    return hard(kept, labels[labelled], n_elements * labelled_share)  # type: ignore[arg-type]


def _targets(labels: Tensor, teacher_logits: Tensor, labelled: Tensor | None) -> Tensor:
    """One label a row: its own, the largest of its shares, or the teacher's where it has none; `(batch,) int64`.

    Of windows that learn where an answer is, whose logits are of `(batch, sequence, 2)`, all that they learn.
    """
    if teacher_logits.ndim == 3:
        return labels
    own = labels.argmax(dim=1) if labels.ndim == 2 else labels.clamp(min=0)
    return own if labelled is None else torch.where(labelled, own, teacher_logits.argmax(dim=1))
