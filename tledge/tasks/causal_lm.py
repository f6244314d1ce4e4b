"""Causal language modelling: a text goes on, one token after another.

A row is a block of tokens, and the target of each token is the one after it, so that there are no labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge import metrics
from tledge.tasks import LOWER, Outputs
from tledge.tasks._cells import no_names as label_names
from tledge.tasks._cells import output_names
from tledge.tasks._cells import unchanged as renamed

__all__ = ["label_names", "output_names", "renamed"]

INPUT = "text"
INPUT_COLUMNS = ("text",)
LABELS = "no_label"
LABEL_COLUMN = ""
NEEDS_LABEL = False
METRIC = "loss"
METRICS = {"loss": LOWER, "perplexity": LOWER, "bits_per_byte": LOWER}
LOSS = "cross_entropy"
LOSSES = ("cross_entropy",)
OPTIMUM_TASK = "text-generation"
PROBLEM_TYPE = "causal_lm"
ROWS = "blocks"
HEAD = "own"
RUN = "generation"
GENERATES = True
OUTPUT = "logits"
UNIT = "blocks"
STRATEGIES = ("full", "partial", "lora", "none")
NO_SCHEMES = {"int8_static": "is for graphs without a cache; use int8_weight_only or int4_weight_only"}
HAS_LENGTH = True
LAYERED = True
MIXES = False
TAKES_FLAGS = False
N_LABELS = range(1)
LEAST_LABELS = 0
PER_TOKEN = True
SCHEMES = ("int8_weight_only", "int4_weight_only")
CALIBRATION_ROWS = 0
STARTER = "language"
BACKBONES = "text"

RATE = "bytes_per_token"
"""UTF-8 bytes of a block's text for each predicted token."""
CHUNK = 1 << 22
"""Logits that are exponentiated together: the float64 copy of so many takes 32 MB."""


def parse_label(
    cell: object,  # noqa: ARG001
    separator: str,  # noqa: ARG001
    decimal: str,  # noqa: ARG001
    given: Sequence[object] = (),  # noqa: ARG001
) -> tuple[str, ...]:
    """No label, whatever the cell holds."""
    return ()


def numbered(label: Sequence[str], names: Iterable[str]) -> list[int]:  # noqa: ARG001
    """None: there are no labels."""
    return []


def targets(labels: Sequence[Sequence[int]], n_labels: int) -> npt.NDArray[np.int64]:
    """The blocks themselves, `(blocks, block) int64`, from token ids below `n_labels`, the size of the vocabulary."""
    result = np.asarray(labels, dtype=np.int64)
    assert result.size == 0 or result.max() < n_labels
    return result


def decode(outputs: Outputs, labels: Sequence[str]) -> list[dict[str, Any]]:
    """One answer a block from `logits`, `(blocks, block, vocabulary)`: the token that goes on and its probability.

    `labels` are the texts of the tokens.
    """
    probabilities = metrics.softmax(outputs["logits"][:, -1])
    return [{"token": labels[int(row.argmax())], "score": float(row.max())} for row in probabilities]


def records(outputs: Outputs, inputs: Outputs) -> dict[str, npt.NDArray[Any]]:
    """What is kept of each block: `token_losses` in nats and the likeliest `tokens` at all places but the first.

    Args:
        outputs: `logits`, `(blocks, block, vocabulary)`, float of any precision.
        inputs: `input_ids`, `(blocks, block) int64`, and if known `bytes_per_token`, `(blocks,)`, which is kept too.
    """
    ids, logits = inputs["input_ids"], outputs["logits"][:, :-1]
    losses = token_losses(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))
    tokens = np.asarray(logits.argmax(axis=-1), dtype=np.int64)
    known = {name: inputs[name] for name in (RATE,) if name in inputs}
    return {"token_losses": losses.reshape(tokens.shape), "tokens": tokens, **known}


def joined(records: Outputs, targets: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:  # noqa: ARG001
    """The records as they are: a row is one block."""
    return dict(records)


def form(columns: Sequence[str]) -> None:
    """None: rows are blocks."""


def predictions(records: Outputs) -> npt.NDArray[np.int64]:
    """The most likely next token after each token but the last, `(blocks, block - 1) int64`."""
    return np.asarray(records["tokens"], dtype=np.int64)


def agree(ours: Outputs, theirs: Outputs) -> npt.NDArray[np.bool_]:
    """Whether both find the same token the likeliest, `(blocks, block - 1) bool`."""
    return np.asarray(predictions(ours) == predictions(theirs))


def score(records: Outputs, targets: npt.NDArray[Any]) -> dict[str, float]:
    """Loss and perplexity of blocks, with `bytes_per_token` bits per byte, and with `tokens` next-token accuracy.

    Args:
        records: those of `records`, of which only `token_losses` must be there.
        targets: token ids, `(blocks, block)`; the first of each block is not predicted.
    """
    rate = records.get(RATE)
    loss = float(np.mean(records["token_losses"], dtype=np.float64))
    found = metrics_of(loss, None if rate is None else float(np.mean(rate, dtype=np.float64)))
    if "tokens" not in records:
        return found
    return found | {"next_token_accuracy": metrics.accuracy(records["tokens"], targets[:, 1:])}


def token_losses(logits: npt.NDArray[Any], targets: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The negative log-likelihood of each target in nats, `(tokens,) float64`, computed in float64.

    Args:
        logits: `(tokens, vocabulary)`, float of any precision.
        targets: token ids, `(tokens,)`.
    """
    result = np.empty(len(targets), dtype=np.float64)
    step = max(1, CHUNK // logits.shape[1])
    for start in range(0, len(targets), step):
        part = logits[start : start + step].astype(np.float64)
        part -= part.max(axis=1, keepdims=True)
        of_target = part[np.arange(len(part)), targets[start : start + step]]
        result[start : start + step] = np.log(np.exp(part, out=part).sum(axis=1)) - of_target
    return result


def metrics_of(loss: float, bytes_per_token: float | None = None) -> dict[str, float]:
    """The metrics that follow from the mean loss in nats a token.

    Args:
        loss: the mean negative log-likelihood.
        bytes_per_token: UTF-8 bytes of the text for each predicted token; without it there is no `bits_per_byte`.
    """
    found = {"loss": loss, "perplexity": math.exp(loss) if loss < math.log(1e300) else math.inf}
    return found if bytes_per_token is None else found | {"bits_per_byte": loss / math.log(2) / bytes_per_token}


def most_frequent(train: npt.NDArray[Any], n_labels: int) -> dict[str, npt.NDArray[Any]]:
    """`logits`, `(vocabulary,) float32`, of the shares of the tokens in blocks `(blocks, block)`."""
    shares = np.maximum(np.bincount(train.ravel(), minlength=n_labels), 0.5)
    return {"logits": np.log(shares).astype(np.float32)}


def target_scale(targets: npt.NDArray[Any]) -> None:
    """None: tokens have no unit."""
