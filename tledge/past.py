"""The tensors of a decoder's graph beside its tokens: which are read, where each token stands, and the past.

A decoder takes `input_ids`, `attention_mask` and `position_ids`, and for each layer N the keys and values of the
tokens before, `past_key_values.N.key` and `past_key_values.N.value`, `(batch, heads, past_sequence, head_size)`. It
gives `logits` and the same with the new tokens added, `present.N.key` and `present.N.value`. Rows of a batch are padded
on the left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge.artifacts import TensorSpec

Array = npt.NDArray[Any]

READ_AT_ONCE = 64
"""Tokens of a prompt that are read in one pass, so that the logits of a long one, of which only the last are looked at,
do not fill the memory: 64 tokens of a vocabulary of 50,000 are 13 MB."""

_PAST, _PRESENT = "past_key_values.", "present."


def past_specs(inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """The tensors of the past among a graph's inputs, in order; empty for a graph that is no decoder."""
    return tuple(spec for spec in inputs if spec.name.startswith(_PAST))


def present_name(past_name: str) -> str:
    """The output that becomes an input of the next step: `present.0.key` for `past_key_values.0.key`."""
    return _PRESENT + past_name.removeprefix(_PAST)


def positions(attention_mask: Array) -> Array:
    """Where each token stands in its text, `(batch, sequence) int64`, from 0 on; 0 for padding.

    Args:
        attention_mask: `(batch, sequence) int64`, 1 for a token and 0 for padding.
    """
    return np.maximum(np.cumsum(attention_mask, axis=1, dtype=np.int64) - 1, 0)


def feeds(
    inputs: Sequence[TensorSpec], input_ids: Array, attention_mask: Array, past: Mapping[str, Array] | None = None
) -> dict[str, Array]:
    """What one pass of a decoder's graph takes.

    Args:
        inputs: The graph's inputs. One without `position_ids` or without a past gets none.
        input_ids: The new tokens, `(batch, sequence) int64`.
        attention_mask: Of past and new tokens, `(batch, past_sequence + sequence) int64`.
        past: Keys and values by the inputs' names; without it there is none, and every token is new.
    """
    given = {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "position_ids": positions(attention_mask)[:, -input_ids.shape[1] :],
    }
    tensors = {spec.name: given[spec.name] for spec in inputs if spec.name in given}
    return tensors | dict(past if past is not None else empty(inputs, len(input_ids)))


def empty(inputs: Sequence[TensorSpec], batch: int) -> dict[str, Array]:
    """A past of no tokens, by the inputs' names."""
    return {spec.name: np.zeros(past_shape(spec, batch, 0), spec.dtype) for spec in past_specs(inputs)}


def following(inputs: Sequence[TensorSpec], outputs: Mapping[str, Array]) -> dict[str, Array]:
    """The past of the next pass, by the inputs' names, from the outputs of one."""
    return {spec.name: outputs[present_name(spec.name)] for spec in past_specs(inputs)}


def past_shape(spec: TensorSpec, batch: int, length: int) -> tuple[int, int, int, int]:
    """The shape of one tensor of the past that holds so many tokens."""
    _, heads, _, head_size = spec.shape
    return batch, int(heads), length, int(head_size)
