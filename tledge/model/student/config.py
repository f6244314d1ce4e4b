"""A config of transformers with other sizes; what its fields are called, optimum knows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from optimum.utils import NormalizedConfigManager, NormalizedTextConfig

from tledge.errors import ModelError
from tledge.recipe.distillation import Shape

INTERMEDIATE = ("intermediate_size", "n_inner", "hidden_dim", "ffn_dim", "ffn_hidden_size", "d_ff")
"""What configs call the width inside the feed-forward layers, which optimum has no word for."""
_NOT_PER_LAYER = ("architectures", "token_id", "token_ids")
"""How the names of lists end that may be as long as there are layers by chance."""


@dataclass(frozen=True, slots=True)
class Fields:
    """What a config calls its sizes; `intermediate_size` is `None` where the architecture derives it."""

    n_layers: str
    hidden_size: str
    n_heads: str
    intermediate_size: str | None


def fields_of(config: Any) -> Fields:
    """What a config calls its sizes.

    Raises:
        ModelError: it has other words than optimum knows, or keeps them in a part of its own.
    """
    try:
        normalized = NormalizedConfigManager.get_normalized_config_class(config.model_type)(config)
    except KeyError:  # newer than optimum; most configs use these words or translate them
        normalized = NormalizedTextConfig(config)
    names = [getattr(normalized, name, "") for name in ("NUM_LAYERS", "HIDDEN_SIZE", "NUM_ATTENTION_HEADS")]
    if not all(isinstance(name, str) and isinstance(getattr(config, name, None), int) for name in names):
        raise ModelError(
            f"distill.student: the config of {config.model_type!r} does not tell its number of layers, width and heads "
            "in known words, so that no student can be made of it; name one in distill.student.backbone"
        )
    n_layers, hidden_size, n_heads = names
    return Fields(n_layers, hidden_size, n_heads, next((name for name in INTERMEDIATE if hasattr(config, name)), None))


def with_layers(config: Any, layers: Sequence[int]) -> Any:
    """A copy of a config for these of its layers; lists with one entry a layer are cut alike."""
    field = fields_of(config).n_layers
    return _with_lists(config, {field: len(layers)}, list(layers))


def with_shape(config: Any, shape: Shape) -> Any:
    """A copy of a config with other sizes; what a shape leaves out follows from the sizes of the config.

    The width inside the feed-forward layers and the number of key-value heads keep their ratios, and so does the width
    of a head where it is the hidden size divided by the heads. Lists with one entry a layer are cut, or repeated.

    Raises:
        ModelError: the heads do not divide the hidden size, or the architecture cannot have what is asked.
    """
    fields = fields_of(config)
    old_layers, old_hidden, old_heads = (
        getattr(config, name) for name in (fields.n_layers, fields.hidden_size, fields.n_heads)
    )
    n_layers, hidden, heads = shape.n_layers or old_layers, shape.hidden_size or old_hidden, shape.n_heads or old_heads
    sizes: dict[str, int] = {fields.hidden_size: hidden, fields.n_heads: heads, fields.n_layers: n_layers}
    stored = vars(config)  # a property follows by itself
    head_dim = stored.get("head_dim")
    follows = head_dim is None or head_dim * old_heads == old_hidden
    if follows and hidden % heads:
        raise ModelError(
            f"distill.student.shape: hidden_size {hidden} cannot be divided among {heads} heads; "
            f"give an n_heads that divides it{_suggested(hidden, heads)}"
        )
    if head_dim is not None and follows:
        sizes["head_dim"] = hidden // heads
    old_groups = stored.get("num_key_value_heads")
    if isinstance(old_groups, int):
        sizes["num_key_value_heads"] = _largest_divisor(heads, max(1, old_groups * heads // old_heads))
    sizes |= _intermediate(config, fields, shape.intermediate_size, hidden / old_hidden)
    return _with_lists(config, sizes, [i % old_layers for i in range(n_layers)])


def _intermediate(config: Any, fields: Fields, asked: int | None, widening: float) -> dict[str, int]:
    name = fields.intermediate_size
    if name is None:
        if asked is None:
            return {}
        raise ModelError(
            f"distill.student.shape.intermediate_size: {config.model_type!r} has no such size of its own; "
            "remove the key"
        )
    old = getattr(config, name)
    if asked is None and not isinstance(old, int):  # None is a fixed multiple of the hidden size, as in GPT-2
        return {}
    return {name: asked or max(1, round(old * widening))}


def _with_lists(config: Any, sizes: dict[str, int], layers: list[int]) -> Any:
    changed = copy.deepcopy(config)
    old_layers = getattr(config, fields_of(config).n_layers)
    for name, value in vars(config).items():
        per_layer = isinstance(value, (list, tuple)) and len(value) == old_layers
        if per_layer and not name.startswith("_") and not name.endswith(_NOT_PER_LAYER):
            setattr(changed, name, type(value)(value[i] for i in layers))
    for name, size in sizes.items():
        setattr(changed, name, size)
    try:
        type(config).from_dict(changed.to_dict())
    except Exception as error:  # a config may check itself in any way
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"distill.student: {config.model_type!r} cannot have these sizes ({reason}); give others, or name another "
            "architecture in distill.student.backbone"
        ) from error
    return changed


def _largest_divisor(number: int, at_most: int) -> int:
    return next(d for d in range(min(number, at_most), 0, -1) if number % d == 0)


def _suggested(hidden: int, heads: int) -> str:
    return f", such as {_largest_divisor(hidden, heads)}"
