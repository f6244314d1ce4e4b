"""Masked language modelling: words are hidden in a text, and the model says what they were.

A row is a block of tokens, of which some are hidden; the target of each of these is what stood there (Devlin et al.
2019), so that there are no labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge import metrics
from tledge.errors import InputError
from tledge.masks import IGNORED
from tledge.tasks import HIGHER, LOWER, Outputs
from tledge.tasks.causal_lm import (
    OUTPUT,
    form,
    joined,
    label_names,
    numbered,
    output_names,
    parse_label,
    renamed,
    target_scale,
    token_losses,
)

__all__ = [
    "OUTPUT",
    "form",
    "joined",
    "label_names",
    "numbered",
    "output_names",
    "parse_label",
    "renamed",
    "target_scale",
]

INPUT = "masked_text"
INPUT_COLUMNS = ("text",)
LABELS = "no_label"
LABEL_COLUMN = ""
NEEDS_LABEL = False
METRIC = "loss"
METRICS = {"loss": LOWER, "pseudo_perplexity": LOWER, "mask_accuracy": HIGHER}
LOSS = "cross_entropy"
LOSSES = ("cross_entropy",)
OPTIMUM_TASK = "fill-mask"
PROBLEM_TYPE = "masked_lm"
ROWS = "masked_blocks"
HEAD = "masked"
RUN = "hidden_words"
GENERATES = False
UNIT = "blocks"
STRATEGIES = ("full", "partial", "lora", "none")
NO_SCHEMES: dict[str, str] = {}
HAS_LENGTH = True
LAYERED = True
MIXES = False
TAKES_FLAGS = False
N_LABELS = range(1)
LEAST_LABELS = 0
PER_TOKEN = True
SCHEMES = ("int8_dynamic", "fp16")
CALIBRATION_ROWS = 0
STARTER = "masked"
BACKBONES = "text"

OPTIONS = ("top_k",)
TOP_K = 5
"""Words that are told of each hidden one, unless asked for more or fewer."""


def targets(labels: Sequence[Sequence[int]], n_labels: int) -> npt.NDArray[np.int64]:
    """What stood at the hidden places, `(blocks, length) int64`, ids below `n_labels`, and `IGNORED` elsewhere."""
    result = np.asarray(labels, dtype=np.int64)
    assert result.size == 0 or result.max() < n_labels
    return result


def most_frequent(train: npt.NDArray[Any], n_labels: int) -> dict[str, npt.NDArray[Any]]:
    """`logits`, `(vocabulary,)`, of the shares of the tokens in targets `(blocks, length)`."""
    counts = np.bincount(train[train != IGNORED].ravel(), minlength=n_labels)
    return {"logits": np.asarray(np.log(np.maximum(counts, 0.5)))}


def decode(outputs: Outputs, labels: Sequence[str]) -> list[dict[str, Any]]:  # noqa: ARG001
    """One answer a text: `masks` has for each hidden word, in order, the likeliest `words` with their `scores`.

    Args:
        outputs: what `tledge.inputs.masked_text` gives: `words`, `scores` and `found`.
        labels: none.
    """
    return [
        {
            "masks": [
                [{"word": str(word), "score": float(score)} for word, score in zip(some, their, strict=True)]
                for some, their, is_there in zip(words, scores, found, strict=True)
                if is_there
            ]
        }
        for words, scores, found in zip(outputs["words"], outputs["scores"], outputs["found"], strict=True)
    ]


def narrowed(answer: dict[str, Any], top_k: int = TOP_K) -> dict[str, Any]:
    """An answer with the `top_k` likeliest words for each hidden one.

    Raises:
        InputError: `top_k` is no number of 1 or more.
    """
    if not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1:
        raise InputError(f"top_k must be 1 or more words for each mask, got {top_k!r}")
    return {"masks": [words[:top_k] for words in answer["masks"]]}


def records(outputs: Outputs, inputs: Outputs) -> dict[str, npt.NDArray[Any]]:
    """What is kept of each block: at its hidden places `token_losses` in nats and the likeliest `tokens`.

    Args:
        outputs: `logits`, `(blocks, length, vocabulary)`, float of any precision.
        inputs: `labels`, `(blocks, length) int64`, `IGNORED` where nothing is hidden: there the losses are 0 and the
            tokens `IGNORED`.
    """
    wanted = inputs["labels"]
    asked = wanted != IGNORED
    losses, tokens = np.zeros(wanted.shape), np.full(wanted.shape, IGNORED, np.int64)
    logits = outputs["logits"][asked]
    losses[asked], tokens[asked] = token_losses(logits, wanted[asked]), logits.argmax(axis=-1)
    return {"token_losses": losses, "tokens": tokens}


def predictions(records: Outputs) -> npt.NDArray[np.int64]:
    """The likeliest token at each place, `(blocks, length) int64`; of records `IGNORED` where nothing is hidden."""
    found = records["tokens"] if "tokens" in records else records["logits"].argmax(axis=-1)
    return np.asarray(found, dtype=np.int64)


def agree(ours: Outputs, theirs: Outputs) -> npt.NDArray[np.bool_]:
    """Whether both find the same token the likeliest, `(hidden tokens,) bool`."""
    first, second = predictions(ours), predictions(theirs)
    return np.asarray((first == second)[first != IGNORED])


def score(records: Outputs, targets: npt.NDArray[Any]) -> dict[str, float]:
    """The mean loss of hidden tokens in nats, its exponential, and with `tokens` how many are found.

    The exponential is called pseudo-perplexity (Salazar et al. 2020), of which it is an estimate: several words are
    hidden at once.

    Args:
        records: those of `records`, of which `tokens` may be missing.
        targets: `(blocks, length) int64`, `IGNORED` where nothing is hidden.
    """
    asked = targets != IGNORED
    loss = float(np.sum(records["token_losses"], where=asked, dtype=np.float64)) / max(1, int(asked.sum()))
    found = {"loss": loss, "pseudo_perplexity": math.exp(loss) if loss < math.log(1e300) else math.inf}
    if "tokens" not in records:
        return found
    return found | {"mask_accuracy": metrics.accuracy(records["tokens"][asked], targets[asked])}
