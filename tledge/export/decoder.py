"""A causal language model to one ONNX file that serves both reading a prompt and going on with it.

The graph takes new tokens together with the keys and values of all tokens before them, and gives the logits of the new
tokens with the keys and values of all. With an empty past it reads a prompt (prefill); with one, any number of tokens
may follow at once. Names and shapes are those that transformers.js and optimum expect.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx_ir
import torch
from torch import nn
from torch.export import Dim
from transformers import DynamicCache, PreTrainedModel

from tledge.artifacts import Graph
from tledge.errors import ExportError
from tledge.export.graph import finish, not_translated
from tledge.export.tied import store_weights_once

TOKENS = ("input_ids", "attention_mask", "position_ids")
DIMENSIONS = {
    "input_ids": ("batch_size", "sequence_length"),
    "attention_mask": ("batch_size", "total_sequence_length"),
    "position_ids": ("batch_size", "sequence_length"),
    "logits": ("batch_size", "sequence_length"),
    "past_key_values": ("batch_size", "past_sequence_length"),
    "present": ("batch_size", "total_sequence_length"),
}
"""The names of dynamic dimensions, in order, of each input and output; of the cache's by the first part of its name.

They are optimum's, by which transformers.js knows how large an empty past is.
"""


def export_decoder(module: PreTrainedModel, path: Path, *, opset: int, external_data: bool) -> Graph:
    """Write the graph of a causal language model and tell what it takes and gives.

    Inputs: `input_ids`, `(batch, sequence) int64`; `attention_mask`, `(batch, total_sequence) int64`, of past and new
    tokens, with zeros for padding, which is on the left; `position_ids`, `(batch, sequence) int64`, which count the
    tokens that are not padding, from 0; and for each layer `N` `past_key_values.N.key` and `.value`,
    `(batch, key/value heads, past_sequence, head size) float32`. Outputs: `logits`,
    `(batch, sequence, vocabulary) float32`, and `present.N.key` and `.value` as the past, with `total_sequence` tokens.

    The attention is traced in its plain ("eager") shape. A table that is both embedding and output layer is stored
    once.

    Args:
        module: a transformers model with a language-modelling head, in float32.
        path: the ONNX file; its weights go beside it as `NAME.data` when `external_data`.
        opset: the ONNX operator set.
        external_data: keep the weights in a file of their own.

    Raises:
        ExportError: the exporter cannot translate the model, or only for the sizes of its sample, or one file would be
            too large.
    """
    if module.dtype != torch.float32:
        raise ExportError(f"export: the model's weights are {module.dtype}; expected float32, which schemes start from")
    before = module.config._attn_implementation
    module.set_attn_implementation("eager")
    try:
        program = _translated(module.cpu().eval(), opset)
    except Exception as error:  # the exporter raises whatever its parts raise
        raise error if isinstance(error, ExportError) else not_translated(module, error) from error
    finally:
        module.set_attn_implementation(before)
    _require_dynamic(program, module)
    store_weights_once(program)
    dimensions = {v.name: DIMENSIONS[v.name.partition(".")[0]] for v in (*program.graph.inputs, *program.graph.outputs)}
    return finish(program, path, opset=opset, external_data=external_data, dimensions=dimensions)


def cache_tensors(cache: Any) -> tuple[torch.Tensor, ...]:
    """The keys and values of a transformers cache, layer by layer, `(batch, heads, sequence, head size)` each.

    Raises:
        ExportError: a layer keeps something else, such as the state of a recurrent layer.
    """
    layers = getattr(cache, "layers", ())
    kept = [getattr(layer, name, None) for layer in layers for name in ("keys", "values")]
    tensors = tuple(tensor for tensor in kept if tensor is not None and tensor.ndim == 4)
    if not tensors or len(tensors) < len(kept):
        raise ExportError(
            f"export: the model's cache is a {type(cache).__name__} that does not hold keys and values alone; "
            "expected a decoder with attention in every layer, such as GPT-2 or Llama"
        )
    return tensors


class _Flat(nn.Module):
    """A language model whose cache goes in and out as flat tensors, as an ONNX graph has them."""

    def __init__(self, module: PreTrainedModel) -> None:
        super().__init__()
        self.module = module

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, position_ids: torch.Tensor, *past: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        # Without a config every layer keeps all tokens: a sliding window is the mask's affair.
        cache = DynamicCache(list(zip(past[::2], past[1::2], strict=True)))
        outputs = self.module(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        )
        return (outputs.logits, *cache_tensors(outputs.past_key_values))


def _translated(module: PreTrainedModel, opset: int) -> onnx_ir.Model:
    tokens, past = _sample(module)
    layers = range(len(past) // 2)
    names = [f"{i}.{kind}" for i in layers for kind in ("key", "value")]
    exported = torch.onnx.export(
        _Flat(module).eval(),
        (*tokens, *past),
        dynamo=True,
        dynamic_shapes=(*({0: Dim.AUTO, 1: Dim.AUTO} for _ in tokens), tuple({0: Dim.AUTO, 2: Dim.AUTO} for _ in past)),
        input_names=[*TOKENS, *(f"past_key_values.{name}" for name in names)],
        output_names=["logits", *(f"present.{name}" for name in names)],
        opset_version=opset,
        verbose=False,
    )
    assert exported is not None  # only an export to a file gives none
    return exported.model


def _sample(module: PreTrainedModel) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """Tokens, and a past from a real prefill; no size is 1, which would be baked in, and one row is padded."""
    batch, n_past, n_new = 2, 5, 3
    vocabulary = module.get_input_embeddings().weight.shape[0]
    ids = torch.arange(batch * (n_past + n_new)).reshape(batch, -1) % vocabulary
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.inference_mode():
        outputs = module(
            input_ids=ids[:, :n_past],
            attention_mask=mask[:, :n_past],
            position_ids=positions[:, :n_past],
            past_key_values=DynamicCache(),
            use_cache=True,
        )
    past = tuple(tensor.clone() for tensor in cache_tensors(outputs.past_key_values))
    return (ids[:, n_past:], mask, positions[:, n_past:]), past


def _require_dynamic(program: onnx_ir.Model, module: nn.Module) -> None:
    """Refuse a graph whose batch or length is the sample's."""
    for value in (*program.graph.inputs, *program.graph.outputs):
        expected = len(DIMENSIONS[value.name.partition(".")[0]])
        if sum(not isinstance(size, int) for size in value.shape) != expected:
            raise ExportError(
                f"export: {type(module).__name__} has the shape {value.shape} at {value.name!r}; expected any batch "
                "and any length: its forward computes with sizes in a way that the exporter cannot follow"
            )
