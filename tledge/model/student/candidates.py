"""The students that a budget chooses from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from tledge.errors import ModelError
from tledge.model.backbones.image import Preprocessing
from tledge.model.student import layers as by_layers
from tledge.model.student import shape as by_shape
from tledge.model.student.config import fields_of
from tledge.model.student.layers import n_blocks
from tledge.model.student.like import check_teacher
from tledge.model.student.size import describe
from tledge.recipe.distillation import Shape, StudentBudget

MOST_COUNTS = 12
"""So many numbers of layers are tried of a deeper teacher, evenly spaced, since each is exported and timed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A student that a budget may allow: `make` makes it untrained, as often as it is called.

    `layers`, `shape` or `backbone` says what it is; one of a `backbone` is made with random weights, since it is only
    timed before it is known to fit.
    """

    name: str
    make: Callable[[], nn.Module]
    parameters: int
    layers: tuple[int, ...] | None = None
    shape: Shape | None = None
    backbone: str | None = None


def candidates(
    teacher: nn.Module, budget: StudentBudget, *, preprocessing: Preprocessing | None = None, seed: int = 0
) -> list[Plan]:
    """The students that a budget chooses from, the ones with most parameters first.

    For texts these are the teacher with fewer of its blocks, evenly spaced ones with the first and the last, and models
    of its kind half as wide with all and with half of its blocks; for images small networks of torchvision. A budget
    may name its own backbones instead.

    Args:
        teacher: a `TextClassifier`, an `ImageClassifier` or a language model of transformers.
        budget: what a recipe says.
        preprocessing: of images, where it is not to be each network's own.
        seed: of random weights.

    Raises:
        ModelError: a named backbone cannot be loaded, or nothing smaller than the teacher can be made.
    """
    named = budget.backbones or getattr(teacher, "students", None)
    if named is not None:
        another = getattr(teacher, "another", _language)
        makers = {name: partial(another, name, preprocessing) for name in named}
        plans = [Plan(name, make, describe(make()).parameters, backbone=name) for name, make in makers.items()]
    else:
        check_teacher(teacher)
        plans = [*_cut(teacher), *_thinner(teacher, seed)]
    if not plans:
        raise ModelError(
            "distill.student.budget: nothing smaller can be made of this teacher; name the candidates in "
            "distill.student.budget.backbones"
        )
    return sorted(plans, key=lambda plan: plan.parameters, reverse=True)


def _cut(teacher: Any) -> Iterator[Plan]:
    """The teacher with fewer blocks; none where its blocks cannot be left out, or not change their places so."""
    try:
        total = n_blocks(teacher)
    except ModelError:
        return
    for count in _spread(total - 1, MOST_COUNTS):
        chosen = _evenly(count, total)
        try:
            made = by_layers.outline(teacher, chosen)
        except ModelError:
            continue
        yield Plan(
            f"{count} of {total} layers",
            partial(by_layers.from_layers, teacher, chosen),
            describe(made).parameters,
            layers=chosen,
        )


def _thinner(teacher: PreTrainedModel, seed: int) -> Iterator[Plan]:
    """Half as wide, with all and with half of the blocks."""
    fields = fields_of(teacher.config)
    total, hidden, heads = (
        getattr(teacher.config, name) for name in (fields.n_layers, fields.hidden_size, fields.n_heads)
    )
    half = hidden // 2
    # An even width of each head, since rotary position embeddings turn its numbers in pairs.
    n_heads = next((n for n in range(max(1, heads // 2), 0, -1) if half % (2 * n) == 0), None)
    if n_heads is None:
        return
    for count in sorted({total, max(1, total // 2)}, reverse=True):
        shape = Shape(n_layers=count, hidden_size=half, n_heads=n_heads)
        yield Plan(
            f"hidden size {half}, {count} of {total} layers",
            partial(by_shape.of_shape, teacher, shape, seed),
            describe(by_shape.outline(teacher, shape)).parameters,
            shape=shape,
        )


def _language(name: str, _: Preprocessing | None) -> nn.Module:
    from tledge.model.language import load_language

    module: nn.Module = load_language(name).module
    return module


def _spread(count: int, at_most: int) -> list[int]:
    """The numbers from `count` down to 1, or `at_most` of them, evenly spaced with both ends."""
    if count <= at_most:
        return list(range(count, 0, -1))
    return [count - round(i * (count - 1) / (at_most - 1)) for i in range(at_most)]


def _evenly(count: int, total: int) -> tuple[int, ...]:
    """So many of the numbers below `total`, evenly spaced with both ends; of one number the last."""
    if count == 1:
        return (total - 1,)
    return tuple(round(i * (total - 1) / (count - 1)) for i in range(count))
