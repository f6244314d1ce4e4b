"""A student in the teacher's architecture with other sizes and random weights."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedModel

from tledge.model.student.config import with_shape
from tledge.model.student.like import check_teacher, like, skeleton
from tledge.recipe.distillation import Shape


def of_shape(
    teacher: PreTrainedModel, shape: Shape, seed: int, *, target_scale: tuple[float, float] | None = None
) -> PreTrainedModel:
    """A model of the teacher's class, labels and tokenizer with these sizes and random weights, in eval mode.

    Args:
        teacher: a `TextClassifier`, or a language model of transformers; left as it is.
        shape: its sizes; what is left out is as in the teacher.
        seed: of the weights.
        target_scale: mean and standard deviation of a regression's targets.

    Raises:
        ModelError: the teacher is no transformer of texts, the heads do not divide the hidden size, or the architecture
            cannot have these sizes.
    """
    return like(teacher, _config(teacher, shape), seed=seed, target_scale=target_scale)


def outline(teacher: PreTrainedModel, shape: Shape) -> PreTrainedModel:
    """As `of_shape`, without weights.

    Raises:
        ModelError: as `of_shape`.
    """
    return skeleton(teacher, _config(teacher, shape))


def _config(teacher: nn.Module, shape: Shape) -> Any:
    check_teacher(teacher)
    return with_shape(teacher.config, shape)
