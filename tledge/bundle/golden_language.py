"""Golden vectors of language models: of the logits a part, after prompts and along a continuation with the cache.

All logits of all places would be larger than many models. What is kept is that of the token after each prompt, and of
16 tokens that follow, one after another, on the first sentences: at 512 tokens of the vocabulary, at the likeliest
token, and at the token of the continuation. So a graph that would have gone on otherwise is found, unless the two
tokens are nearly as likely as each other.

Logits are kept less their mean over the vocabulary. That is often far from 0, says nothing about the text, and would
make a tolerance that is a share of the largest value too wide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge import past
from tledge.artifacts import TensorSpec
from tledge.errors import BundleError

Array = npt.NDArray[Any]
Run = Callable[[Mapping[str, Array]], dict[str, Array]]

CONTINUATION = "continuation"
"""The input with the tokens that follow a prompt, `(1, tokens) int64`; the last one is not read, only predicted."""
N_TOKENS = 16
N_IDS = 512


def graph_run(run: Run, inputs: Sequence[TensorSpec]) -> Run:
    """The golden outputs of a decoder's graph: a prompt, and then token after token with its cache.

    Args:
        run: One pass of the graph.
        inputs: What the graph takes.
    """

    def answer(tensors: Mapping[str, Array]) -> dict[str, Array]:
        missing = [name for name in ("input_ids", "attention_mask") if name not in tensors]
        if missing:
            raise BundleError(f"a decoder needs {missing[0]!r}, got {', '.join(tensors) or 'nothing'}")
        mask, following = tensors["attention_mask"], tensors.get(CONTINUATION)
        if following is not None and following.size > N_TOKENS:
            raise BundleError(f"the continuation must be {N_TOKENS} tokens at most, got {following.size}")
        outputs = _read(run, inputs, tensors["input_ids"], mask)
        rows = [_last(outputs)]
        for token in () if following is None else following[0, :-1]:
            mask = np.pad(mask, ((0, 0), (0, 1)), constant_values=1)
            before = past.following(inputs, outputs)
            outputs = run(past.feeds(inputs, np.array([[token]], np.int64), mask, before))
            rows.append(_last(outputs))
        return _golden_outputs(np.concatenate(rows), following)

    return answer


def whole_run(run: Run) -> Run:
    """The same of a model that reads whole texts, without a cache: of torch.

    Args:
        run: One pass from `input_ids`, `attention_mask` and `position_ids`, `(batch, sequence) int64`, to `logits`,
            `(batch, sequence, vocabulary) float32`.
    """

    def answer(tensors: Mapping[str, Array]) -> dict[str, Array]:
        ids, mask, following = tensors["input_ids"], tensors["attention_mask"], tensors.get(CONTINUATION)
        if following is not None:
            ids = np.concatenate([ids, following[:, :-1]], axis=1)
            mask = np.pad(mask, ((0, 0), (0, following.shape[1] - 1)), constant_values=1)
        logits = run({"input_ids": ids, "attention_mask": mask, "position_ids": past.positions(mask)})["logits"]
        last = 1 if following is None else following.shape[1]
        return _golden_outputs(logits[:, -last:].reshape(-1, logits.shape[-1]), following)

    return answer


def continuation(answer: Run, tensors: Mapping[str, Array], *, context_length: int) -> Array:
    """The tokens that a model goes on with, greedily, `(1, tokens) int64`: 16, or as many as the context can predict.

    Args:
        answer: What `graph_run` or `whole_run` gave.
        tensors: One sentence.
        context_length: Tokens that the model can read.
    """
    tokens: list[int] = []
    for _ in range(min(N_TOKENS, context_length - tensors["input_ids"].shape[1] + 1)):
        given = np.array([[*tokens, 0]], np.int64)
        tokens.append(int(answer({**tensors, CONTINUATION: given})["tokens"][-1]))
    return np.array([tokens], np.int64)


def spread_ids(vocab_size: int) -> Array:
    """The tokens whose logits are kept: all, or 512 from the first to the last, evenly spaced and rounded down."""
    if vocab_size <= N_IDS:
        return np.arange(vocab_size)
    return np.arange(N_IDS) * (vocab_size - 1) // (N_IDS - 1)


def _read(run: Run, inputs: Sequence[TensorSpec], input_ids: Array, mask: Array) -> dict[str, Array]:
    """The outputs of the last pass over a prompt, which goes 64 tokens at a time."""
    outputs: dict[str, Array] = {}
    before = None
    for start in range(0, input_ids.shape[1], past.READ_AT_ONCE):
        stop = start + past.READ_AT_ONCE
        outputs = run(past.feeds(inputs, input_ids[:, start:stop], mask[:, :stop], before))
        before = past.following(inputs, outputs)
    return outputs


def _last(outputs: Mapping[str, Array]) -> Array:
    """The logits of the token after each text, `(batch, vocabulary)`."""
    logits = outputs.get("logits")
    if logits is None or logits.ndim != 3 or not logits.size or logits.dtype.kind != "f":
        got = "none" if logits is None else f"{logits.dtype} {logits.shape}"
        raise BundleError(f"a decoder must give logits, floats (batch, sequence, vocabulary), got {got}")
    return np.asarray(logits[:, -1])


def _golden_outputs(logits: Array, following: Array | None) -> dict[str, Array]:
    """`logits`, `(rows, vocabulary)`, as the golden `logits` and the likeliest `tokens`, `(rows,)`."""
    tokens = logits.argmax(axis=1)
    logits = logits - logits.mean(axis=1, keepdims=True, dtype=np.float64)
    kept = [logits[:, spread_ids(logits.shape[1])], logits.max(axis=1, keepdims=True)]
    if following is not None:
        kept.append(np.take_along_axis(logits, following.T, axis=1))
    return {"logits": np.concatenate(kept, axis=1, dtype=np.float32), "tokens": tokens}
