"""The recipe's keys about students and their distillation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tledge.recipe.section import Section
from tledge.recipe.training import Training

Size = Annotated[int, Field(ge=1)]


class Shape(Section):
    """The sizes of a transformer with random weights; what is left out is as in the architecture it is made from."""

    n_layers: Size | None = None
    """Blocks."""
    hidden_size: Size | None = None
    """Width of the hidden states."""
    n_heads: Size | None = None
    """Attention heads; must divide `hidden_size`."""
    intermediate_size: Size | None = None
    """Width inside the feed-forward layers; by default it keeps its ratio to `hidden_size`."""


class StudentBudget(Section):
    """What a student may cost; candidates are timed before any is trained, and only those that fit are."""

    p95_ms: Annotated[float, Field(gt=0)] | None = None
    """The 95th percentile of one run at the first setting of `bench`, in milliseconds, of the student in fp32 or in a
    scheme that needs no calibration."""
    size_mb: Annotated[float, Field(gt=0)] | None = None
    """The size of the same graph, in MB of 10^6 bytes."""
    backbones: Annotated[list[str], Field(min_length=1)] | None = None
    """The candidates; by default, for texts the teacher with fewer layers and thinner ones of its kind, and for images
    small networks of torchvision."""
    train: Size = 1
    """How many of the candidates that fit are trained, the largest first; the best one on the validation rows is the
    student."""


class Student(Section):
    """What learns from the teacher: a part of its layers, or one of `shape`, `backbone` and `budget`."""

    layers: Literal["every_second", "first_and_last"] | list[Annotated[int, Field(ge=0)]] | None = None
    """The teacher's blocks that the student starts from, counted from 0: a list, `every_second` (0, 2, 4 ...) or
    `first_and_last`; embeddings and head are copied too. The default is `every_second`."""
    shape: Shape | None = None
    backbone: str | None = None
    """Another architecture, as in `model.backbone`; its own tokenizer or image size serves the student alone."""
    weights: str | None = None
    """As `model.weights`, for `backbone`."""
    match: Literal["names", "order"] = "names"
    """As `model.match`, for `backbone`."""
    revision: str | None = None
    """As `model.revision`, for `backbone`."""
    budget: StudentBudget | None = None


class _Knowledge(Section):
    """What is learnt from whom."""

    student: Student = Student()
    losses: Annotated[dict[str, Annotated[float, Field(ge=0)]], Field(min_length=1)] | None = None
    """Losses by name, each with its weight: `soft_targets` (Hinton et al. 2015), `dkd` or `dist` on logits,
    `hidden_cosine`, `feature_maps`, `attention` and `value_relations` on what lies inside, and `hard_labels`. By
    default soft targets and hard labels, and the cosine of hidden states where both have hidden states."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    """Both logits are divided by it in `soft_targets`, `dkd` and `dist`; higher shows more of how wrong answers
    compare."""
    layer_map: list[Annotated[int, Field(ge=0)]] | None = None
    """For each block of the student the teacher's block that it learns from; by default the one that it was copied
    from, else evenly spaced."""
    teacher_cache: bool = False
    """Compute the teacher's logits once for each training row, unchanged, instead of on the very view that the student
    sees; cheaper, often worse, and named in the report. Only for losses on logits."""
    baseline: bool = True
    """Train the same student without the teacher too, on the same rows in the same steps, to see what the teacher
    gave."""
    seeds: Annotated[int, Field(ge=1)] = 1
    """How many times both are trained, with `seed` and the numbers after it; the report's intervals are over them, and
    the first one is shipped."""


class Distill(Training, _Knowledge):
    """How a student learns from the teacher, which is what `model` and `finetune` give (Hinton et al. 2015)."""

    epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the training rows; 3 by default."""
    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] | None = None
    """Peak learning rate; by default 1e-4 for a student made of the teacher's layers or with pretrained weights, and
    1e-3 for random ones; `auto` tries rising rates first."""
