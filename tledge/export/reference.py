"""A checkpoint in torch eager behind the same seam as a graph: the reference for parity, scores and latency."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from tledge.evaluate import Run

Array = npt.NDArray[Any]


def torch_run(model: nn.Module, *, threads: int | None = None) -> Run:
    """One pass of a model in torch eager, on the CPU, without gradients.

    `threads` is set for the process at each call, since torch's thread pool is the process's own.
    """
    model = model.cpu().eval()

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        if threads is not None and torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.inference_mode():
            outputs = model(**{name: torch.from_numpy(array) for name, array in feeds.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return run


def torch_logits(model: nn.Module) -> Run:
    """One pass of a causal language model of transformers in torch eager, on the CPU: `input_ids` to all `logits`."""
    model = model.cpu().eval()

    def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
        with torch.inference_mode():
            logits = model(input_ids=torch.from_numpy(feeds["input_ids"]), use_cache=False).logits
        return {"logits": logits.numpy()}

    return run


def torch_generate(model: nn.Module, *, threads: int | None = None) -> Callable[[Array, int], Iterator[Array]]:
    """A causal language model of transformers in torch eager with its own cache, on the CPU: one pass for each token.

    Given prompts, `(batch, prompt) int64` without padding, and a number of new tokens, it yields the tokens of all
    rows, `(batch,) int64`, one step after another: greedily, and past an end-of-text token. `threads` as in
    `torch_run`.
    """
    model = model.cpu().eval()

    def generate(input_ids: Array, new_tokens: int) -> Iterator[Array]:
        if threads is not None and torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        ids, cache = torch.from_numpy(input_ids), None
        for _ in range(new_tokens):
            with torch.inference_mode():
                output = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
                ids, cache = output.logits[:, -1].argmax(dim=-1, keepdim=True), output.past_key_values
            yield ids[:, 0].numpy()

    return generate
