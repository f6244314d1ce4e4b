"""A student made of some of a teacher's blocks (Sanh et al. 2019, DistilBERT)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from tledge.errors import ModelError
from tledge.model.blocks import block_list
from tledge.model.student.config import fields_of, with_layers
from tledge.model.student.like import check_teacher, like, skeleton

KEY = "distill.student.layers"
EVERY_SECOND, FIRST_AND_LAST = "every_second", "first_and_last"


def n_blocks(teacher: nn.Module) -> int:
    """How many blocks a transformer of texts has.

    Raises:
        ModelError: it is another network, or its blocks are not what its config counts (they share their weights, as
            in ALBERT).
    """
    check_teacher(teacher)
    _, blocks = block_list(teacher)
    config: Any = teacher.config
    told = getattr(config, fields_of(config).n_layers)
    if told != len(blocks):
        raise ModelError(
            f"{KEY}: {config.model_type!r} runs {told} layers with {len(blocks)} set of weights, so none can be left "
            "out; use distill.student.shape or distill.student.backbone"
        )
    return len(blocks)


def choose_layers(layers: str | Sequence[int] | None, n_layers: int, *, key: str = KEY) -> tuple[int, ...]:
    """The numbers of the teacher's blocks that a student is made of, counted from 0.

    Args:
        layers: `every_second` (0, 2, 4 ..., also for `None`), `first_and_last`, or the numbers themselves.
        n_layers: blocks of the teacher.
        key: what errors name.

    Raises:
        ModelError: a number is out of range or not in rising order, or a name leaves nothing out.
    """
    if layers is None or isinstance(layers, str):
        return _named(layers or EVERY_SECOND, n_layers, key)
    wrong = [number for number in layers if not 0 <= number < n_layers]
    if wrong:
        blocks = "1 block: 0" if n_layers == 1 else f"{n_layers} blocks: 0 to {n_layers - 1}"
        raise ModelError(f"{key}: got {wrong[0]}, but the teacher has {blocks}; give the numbers of those to keep")
    if not layers or sorted(set(layers)) != list(layers):
        raise ModelError(f"{key}: got {list(layers)}; expected the blocks to keep, each once and in rising order")
    return tuple(layers)


def from_layers(teacher: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """A student of the teacher's class with these of its blocks, and copies of all else, in eval mode.

    Embeddings, final norm, pooler and head are the teacher's own values, bit for bit, in memory of the student's own.
    Blocks count their places anew, so that a language model's cache works.

    Args:
        teacher: a `TextClassifier`, or a language model of transformers; left as it is.
        layers: numbers of its blocks, each once, in rising order.

    Raises:
        ModelError: the teacher is no transformer of texts, has no such blocks, or they cannot change their places.
    """
    config = _config(teacher, layers)
    state = _renumbered(teacher, layers)
    student = like(teacher, config)
    head = getattr(teacher, "classifier", None)
    if head is not None:
        student.classifier = copy.deepcopy(head)  # a regression's scale is a part of it
    try:
        student.load_state_dict(state)
    except RuntimeError as error:
        raise _not_alike(teacher, layers) from error
    return student.requires_grad_(True).eval()


def outline(teacher: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """As `from_layers`, without weights: what it would be is looked up in its names, shapes and numbers.

    Raises:
        ModelError: as `from_layers`.
    """
    made = skeleton(teacher, _config(teacher, layers))
    head = getattr(teacher, "classifier", None)
    if head is not None:
        made.classifier = copy.deepcopy(head).to("meta")
    ours = {name: tensor.shape for name, tensor in made.state_dict().items()}
    if ours != {name: tensor.shape for name, tensor in _renumbered(teacher, layers).items()}:
        raise _not_alike(teacher, layers)
    return made


def _named(name: str, n_layers: int, key: str) -> tuple[int, ...]:
    if name not in (EVERY_SECOND, FIRST_AND_LAST):
        raise ModelError(f"{key}: got {name!r}; expected {EVERY_SECOND}, {FIRST_AND_LAST} or a list of blocks")
    if n_layers == 1:
        raise ModelError(
            f"{key}: the teacher has one block alone, so there is nothing to leave out; make a student with "
            "distill.student.shape or distill.student.backbone"
        )
    chosen = tuple(range(0, n_layers, 2)) if name == EVERY_SECOND else (0, n_layers - 1)
    if len(chosen) == n_layers:
        raise ModelError(
            f"{key}: {name} keeps both of the teacher's {n_layers} blocks; use {EVERY_SECOND}, or a list of one block"
        )
    return chosen


def _config(teacher: PreTrainedModel, layers: Sequence[int]) -> Any:
    chosen = choose_layers(layers, n_blocks(teacher))
    if getattr(teacher.config, "scale_attn_by_inverse_layer_idx", False):
        raise ModelError(
            f"{KEY}: the teacher's config has scale_attn_by_inverse_layer_idx: its blocks compute something else in "
            "another place; use distill.student.shape or distill.student.backbone"
        )
    return with_layers(teacher.config, chosen)


def _renumbered(teacher: nn.Module, layers: Sequence[int]) -> Mapping[str, Tensor]:
    """The teacher's tensors under the names that they have in a student of these blocks."""
    prefix = f"{block_list(teacher)[0]}."
    places = {number: place for place, number in enumerate(layers)}
    state = {}
    for name, tensor in teacher.state_dict().items():
        if not name.startswith(prefix):
            state[name] = tensor
            continue
        number, _, rest = name.removeprefix(prefix).partition(".")
        if int(number) in places:
            state[f"{prefix}{places[int(number)]}.{rest}"] = tensor
    return state


def _not_alike(teacher: Any, layers: Sequence[int]) -> ModelError:
    return ModelError(
        f"{KEY}: the blocks of {teacher.config.model_type!r} differ by their places, so that a student of blocks "
        f"{', '.join(map(str, layers))} has no place for all of their weights; keep block 0, or use "
        "distill.student.shape"
    )
