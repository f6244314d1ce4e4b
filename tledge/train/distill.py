"""Train a student to be like its teacher (Hinton et al. 2015), or, for comparison, the same student alone."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tledge import plugins
from tledge.batches import Columns
from tledge.errors import TrainError
from tledge.progress import Progress
from tledge.recipe.schema import Distill
from tledge.train.fit import Fitted, fit
from tledge.train.intermediate import (
    LOSSES,
    Inside,
    Pairing,
    Place,
    compares_tokens,
    eager_attention,
    first_tensor,
    listening,
)
from tledge.train.mix import Mix
from tledge.train.objective import Objective
from tledge.train.plan import Plan, Scoring, Sets
from tledge.train.row_distillation import HARD_LABELS, own_inputs, teacher_inputs
from tledge.train.teacher import Teacher

DEFAULT_WEIGHTS = {"soft_targets": 1.0, HARD_LABELS: 0.5, "hidden_cosine": 1.0}
"""What is learnt unless the recipe says otherwise; hidden states only where both models have them, of the same
tokens."""

SECTION = "distill"
TRIED_TOKENS = 16
"""How much of two rows is read to see whether models and losses fit."""


def weights_for(
    settings: Distill, *, has_hidden: bool, cached: bool, problem_type: str = "single_label_classification"
) -> dict[str, float]:
    """The losses of a distillation by name, each with its weight; those without weight are left out.

    Args:
        settings: the recipe's `distill`.
        has_hidden: whether both models give hidden states of the same tokens; see `has_hidden`.
        cached: whether the teacher's logits are all there is of it.
        problem_type: of the task.

    Raises:
        TrainError: a loss that the recipe asks for cannot work here.
    """
    if settings.losses is None:
        return {
            name: weight
            for name, weight in DEFAULT_WEIGHTS.items()
            if name != "hidden_cosine" or (has_hidden and not cached)
        }
    weights = {name: weight for name, weight in settings.losses.items() if weight}
    for name in weights:
        if name != HARD_LABELS:
            _check_loss(name, has_hidden=has_hidden, cached=cached, problem_type=problem_type)
    return weights


def has_hidden(student: nn.Module, teacher: nn.Module, train: Columns, pairing: Pairing | None) -> bool:
    """Whether the blocks of both models give hidden states of the same tokens, tried on a few rows of `train`.

    Both models are left in eval mode.
    """
    return pairing is not None and _tokens_agree(student, teacher, pairing, _sample(train, student))


class Targets(Protocol):
    """What a student is asked: rows with an answer each (`targets.RowTargets`), or tokens (`token_loss.TokenTargets`).

    `problem_type` is that of the task; `too_different` says in words that both answer with other numbers of outputs.
    """

    @property
    def problem_type(self) -> str: ...
    def too_different(self, ours: int, theirs: int) -> str: ...
    def module(
        self,
        student: nn.Module,
        teacher: nn.Module | None,
        inside: Inside | None,
        weights: Mapping[str, float],
        settings: Distill,
        sample: Mapping[str, Tensor],
    ) -> nn.Module:
        """Both beside each other, as one module that trains."""

    def objective(self, weights: Mapping[str, float], settings: Distill, sets: Sets) -> Objective:
        """What is made small."""


def distill(
    student: nn.Module,
    teacher: nn.Module | None,
    sets: Sets,
    targets: Targets,
    scoring: Scoring,
    plan: Plan,
    settings: Distill,
    *,
    pairing: Pairing | None,
    progress: Progress,
) -> Fitted:
    """Train a student in place and leave it with the weights of its best epoch.

    The teacher sees the very batch that the student sees, unless the batch holds its logits. The validation loss is
    that of the labels alone.

    Args:
        student: its forward takes a batch's tensors and gives `{"logits": (batch, labels)}`; for language models a
            causal one of transformers.
        teacher: alike, and left as it is; `None` trains the student alone, on the same rows in the same steps, by their
            labels.
        sets: as for `fit`; a training batch may also hold inputs of the teacher's own (`teacher_input_ids`,
            `teacher_pixel_values`, ...), `teacher_logits`, `(batch, labels) float32`, and `labelled`, `(batch,) bool`,
            for rows without a label. The teacher sees mixed images.
        targets: what is asked.
        scoring: as for `fit`.
        plan: as for `fit`; its groups are the student's.
        settings: the recipe's `distill`.
        pairing: the blocks that are compared; `None` where only logits are.
        progress: shown by rows.

    Raises:
        TrainError: a loss cannot work with these models, they do not answer alike, or what `fit` raises.
    """
    sample = _sample(sets.train, student)
    with ExitStack() as stack:
        weights: dict[str, float] = {HARD_LABELS: 1.0}
        inside = None
        if teacher is not None:
            weights = _weights(student, teacher, pairing, settings, targets, sample, sets.mix)
            if "attention" in weights:
                stack.enter_context(eager_attention(student, teacher))
            inside = _inside(student, teacher, pairing, weights, sample, plan.seed)
        return fit(
            targets.module(student, teacher, inside, weights, settings, sample),
            sets,
            targets.objective(weights, settings, sets),
            scoring,
            replace(plan, groups=plan.groups + _groups_of(inside, plan.groups, settings)),
            settings,
            progress=progress,
            section=SECTION,
        )


def _check_loss(name: str, *, has_hidden: bool, cached: bool, problem_type: str) -> None:
    module = plugins.load(LOSSES, name)
    if module.NEEDS == "logits":
        if problem_type not in module.PROBLEM_TYPES:
            raise TrainError(
                f"distill.losses: {name} is for {' and '.join(module.PROBLEM_TYPES)}, and the task is a "
                f"{problem_type}; use soft_targets"
            )
        return
    what = module.NEEDS.replace("_", " ")
    if cached:
        raise TrainError(
            f"distill.losses: {name} compares {what}, and distill.teacher_cache keeps logits alone; set it to false, "
            f"or remove {name}"
        )
    if module.NEEDS != "feature_maps" and not has_hidden:
        raise TrainError(
            f"distill.losses: {name} compares {what}, for which both must be transformers that read the same tokens; "
            f"remove {name}, or take another student"
        )


def _sample(train: Columns, student: nn.Module) -> dict[str, Tensor]:
    """A batch of two rows, or of one where there is no more, and of a few tokens, on the student's device."""
    device = next(student.parameters()).device
    batch = train.batch(range(min(2, len(train))))
    tokens = {name for name, each in batch.items() if each.ndim == 2 and not each.is_floating_point()}
    return {
        name: (each[:, :TRIED_TOKENS] if name in tokens else each).to(device)
        for name, each in batch.items()
        if name != "labels"
    }


def _weights(
    student: nn.Module,
    teacher: nn.Module,
    pairing: Pairing | None,
    settings: Distill,
    targets: Targets,
    sample: dict[str, Tensor],
    mix: Mix | None,
) -> dict[str, float]:
    cached = "teacher_logits" in sample
    if cached and mix is not None:
        raise TrainError(
            "distill.teacher_cache: the teacher's logits are those of single images, and distill.augmentation mixes "
            "them; set teacher_cache to false"
        )
    hidden = pairing is not None and not cached and _tokens_agree(student, teacher, pairing, sample)
    weights = weights_for(settings, has_hidden=hidden, cached=cached, problem_type=targets.problem_type)
    _check_answers(student, teacher, sample, targets)
    return weights


def _tokens_agree(student: nn.Module, teacher: nn.Module, pairing: Pairing, sample: dict[str, Tensor]) -> bool:
    if any(name in sample for name in ("teacher_input_ids", "teacher_logits")):
        return False
    ours, theirs = ({"": [Place(block, first_tensor) for block in side]} for side in pairing.sides("all"))
    with torch.no_grad(), listening(ours) as student_heard, listening(theirs) as teacher_heard:
        student.eval()(**own_inputs(sample))
        Teacher(teacher)(teacher_inputs(sample))
    return all(compares_tokens(s, t) for s, t in zip(student_heard[""], teacher_heard[""], strict=True))


def _check_answers(student: nn.Module, teacher: nn.Module, sample: dict[str, Tensor], targets: Targets) -> None:
    """Raise where both models do not answer with as many numbers."""
    with torch.no_grad():
        ours = student.eval()(**own_inputs(sample))["logits"].shape[-1]
    cached = sample.get("teacher_logits")
    theirs = (Teacher(teacher)(teacher_inputs(sample))["logits"] if cached is None else cached).shape[-1]
    if ours != theirs:
        raise TrainError(f"distill: {targets.too_different(ours, theirs)}")


def _inside(
    student: nn.Module,
    teacher: nn.Module,
    pairing: Pairing | None,
    weights: dict[str, float],
    sample: dict[str, Tensor],
    random_seed: int,
) -> Inside | None:
    names = [name for name in weights if name != HARD_LABELS and plugins.load(LOSSES, name).NEEDS != "logits"]
    if not names:
        return None
    if pairing is None:
        raise TrainError(f"distill.losses: {names[0]} compares blocks, and these models have none in common; remove it")
    return Inside(
        names,
        pairing,
        lambda: student.eval()(**own_inputs(sample)),
        lambda: Teacher(teacher)(teacher_inputs(sample)),
        random_seed=random_seed,
    )


def _groups_of(inside: Inside | None, groups: list[dict[str, Any]], settings: Distill) -> list[dict[str, Any]]:
    """The projections' own parameters, which learn as fast as the fastest of the student's."""
    parameters = [] if inside is None else list(inside.parameters())
    if not parameters:
        return []
    rate = max(group["lr"] for group in groups)
    return [{"params": parameters, "lr": rate, "weight_decay": settings.weight_decay}]
