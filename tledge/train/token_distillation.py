"""A student of language with its teacher, as one module that trains: blocks of tokens in, a sum of losses out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tledge import plugins
from tledge.recipe.schema import Distill
from tledge.train.intermediate import LOSSES, Inside, listening
from tledge.train.objective import Objective
from tledge.train.plan import Sets
from tledge.train.row_distillation import HARD_LABELS, own_inputs
from tledge.train.teacher import Teacher
from tledge.train.vocabulary import LanguageHead, block_losses, language_head, sum_over_tokens


class LanguageDistillation(nn.Module):
    """A causal language model beside its teacher, on the very same blocks of tokens.

    In training it gives `loss_sum`, the weighted losses summed over all predicted tokens, a scalar. In eval mode it
    gives `token_losses`, `(batch, sequence - 1) float32`, the student's negative log-probability of each token.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None,
        inside: Inside | None,
        weights: Mapping[str, float],
        settings: Distill,
        sample: Mapping[str, Tensor],
    ) -> None:
        """Put both beside each other.

        Args:
            student: a causal language model of transformers.
            teacher: alike, with the same vocabulary; `None` trains the student alone.
            inside: the losses on what lies inside of the models.
            weights: of the losses by name.
            settings: the recipe's `distill`.
            sample: a batch, to see how the models' logits come about.
        """
        super().__init__()
        self.student = student
        self.inside = inside
        self.teacher = None if teacher is None else Teacher(teacher)
        self._student_head = language_head(student, own_inputs(sample))
        self._teacher_head = language_head(student if teacher is None else teacher, own_inputs(sample))
        self._weights = {name: weight for name, weight in weights.items() if weight}
        self._on_logits = {
            name: module.loss
            for name, module in ((name, plugins.load(LOSSES, name)) for name in self._weights if name != HARD_LABELS)
            if module.NEEDS == "logits"
        }
        self._temperature, self._label_smoothing = settings.temperature, settings.label_smoothing

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        """The losses; see the class.

        Args:
            batch: `input_ids`, `(batch, sequence) int64`, and `attention_mask`, ones of the same shape.
        """
        inputs = own_inputs(batch)
        if not self.training:
            return {"token_losses": block_losses(self._student_head, inputs)}
        targets = inputs["input_ids"][:, 1:].flatten()
        with listening({} if self.inside is None else self.inside.student_places) as ours:
            states = _predicting(self._student_head, inputs)
        if self.teacher is None:
            return {"loss_sum": self._sum(states, targets, None)}
        self.teacher.follow(states.device)
        with torch.no_grad(), listening({} if self.inside is None else self.inside.teacher_places) as theirs:
            teacher_states = _predicting(self._teacher_head, inputs)
        total = self._sum(states, targets, teacher_states)
        if self.inside is not None:
            n_predicted = inputs["input_ids"].shape[1] - 1
            for name, values in self.inside(ours, theirs, inputs["attention_mask"]).items():
                total = total + self._weights[name] * n_predicted * values.sum()
        return {"loss_sum": total}

    def _sum(self, states: Tensor, targets: Tensor, teacher_states: Tensor | None) -> Tensor:
        """The losses on logits, summed over all tokens, whose states are `(tokens, hidden)`."""

        def of_some(logits: Tensor, part: slice) -> Tensor:
            if teacher_states is None:
                return self._of_logits(logits, None, targets[part])
            with torch.no_grad():
                theirs = self._teacher_head.logits(teacher_states[part])
            return self._of_logits(logits, theirs, targets[part])

        return sum_over_tokens(states, self._student_head.head, of_some)

    def _of_logits(self, logits: Tensor, teacher_logits: Tensor | None, targets: Tensor) -> Tensor:
        """The weighted losses summed over some tokens, whose logits are `(tokens, vocabulary)`."""
        total = logits.new_zeros((), dtype=torch.float32)
        if HARD_LABELS in self._weights:
            hard = F.cross_entropy(logits.float(), targets, reduction="sum", label_smoothing=self._label_smoothing)
            total = total + self._weights[HARD_LABELS] * hard
        options: dict[str, Any] = {"temperature": self._temperature, "problem_type": "causal_lm", "targets": targets}
        for name, loss in self._on_logits.items():
            total = total + self._weights[name] * loss(logits, teacher_logits, **options).sum()
        return total


def _predicting(speaks: LanguageHead, inputs: Mapping[str, Tensor]) -> Tensor:
    """The states of all tokens that another follows, `(tokens, hidden)`."""
    return speaks.hidden(inputs)[:, :-1].flatten(0, 1)


def token_loss(outputs: Mapping[str, Tensor], labels: Tensor, n_items: int | Tensor | None) -> Tensor:
    """The mean over predicted tokens: all but the first of each block, `labels` are `(batch, sequence) int64`."""
    n_tokens = (labels.numel() if n_items is None else n_items) * ((labels.shape[1] - 1) / labels.shape[1])
    total = outputs["loss_sum"] if "loss_sum" in outputs else outputs["token_losses"].sum()
    return total / n_tokens


@dataclass(frozen=True, slots=True)
class TokenTargets:
    """Blocks of tokens, each of which is to be predicted."""

    problem_type: str

    def too_different(self, ours: int, theirs: int) -> str:
        """That both have vocabularies of other sizes, in words."""
        return (
            f"the student has a vocabulary of {ours} tokens and the teacher one of {theirs}; what is learnt from the "
            "teacher is said word by word, so take a student with the teacher's tokenizer"
        )

    def module(
        self,
        student: nn.Module,
        teacher: nn.Module | None,
        inside: Inside | None,
        weights: Mapping[str, float],
        settings: Distill,
        sample: Mapping[str, Tensor],
    ) -> nn.Module:
        """Both beside each other."""
        return LanguageDistillation(student, teacher, inside, weights, settings, sample)

    def objective(self, weights: Mapping[str, float], settings: Distill, sets: Sets) -> Objective:  # noqa: ARG002
        """The mean over predicted tokens, whose losses the module has weighed."""
        return token_loss
