"""One scorer of language models for torch, ONNX and the device: how likely a text is to a model.

Each block of tokens is read on its own, and all of its tokens but the first are predicted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge.progress import Progress, silent
from tledge.tasks.causal_lm import metrics_of, token_losses

Array = npt.NDArray[Any]
LogitsRun = Callable[[npt.NDArray[np.int64]], Array]
"""One pass of a model: token ids `(batch, sequence) int64` to logits `(batch, sequence, vocabulary)`, float."""


@dataclass(frozen=True, slots=True)
class LanguageEvaluation:
    """How likely some blocks are to a model.

    `metrics` are `loss` (the mean negative log-likelihood, nats a token), `perplexity` (its exponential),
    `bits_per_byte` (bits for each UTF-8 byte of the text, which models with different tokens can be compared by) and
    `next_token_accuracy`. `decisions` are the most likely tokens at the predicted places, `(blocks * (block - 1),)`,
    and `token_losses` the negative log-likelihoods of the right ones in nats, `(blocks, block - 1)`.
    """

    metrics: dict[str, float]
    decisions: npt.NDArray[np.int64]
    token_losses: npt.NDArray[np.float64]

    @property
    def outputs(self) -> dict[str, npt.NDArray[np.float64]]:
        """What metrics are made of, by name, rows first."""
        return {"token_losses": self.token_losses}


def score(
    run: LogitsRun,
    blocks: Array,
    *,
    bytes_per_token: float,
    batch_size: int = 1,
    progress: Progress = silent,
    description: str = "Scoring",
) -> LanguageEvaluation:
    """Run a language model over blocks of tokens and score it.

    The default batch of one block is what a device does; see `evaluate.score`.

    Args:
        run: the model.
        blocks: token ids, `(blocks, block)`, of any integer type; a block has 2 tokens or more.
        bytes_per_token: UTF-8 bytes of the text for each predicted token.
        batch_size: blocks in one run.
        progress: shown by blocks.
        description: what the progress bar says.
    """
    losses: list[npt.NDArray[np.float64]] = []
    decisions: list[npt.NDArray[np.int64]] = []
    with progress(description, total=len(blocks)) as advance:
        for start in range(0, len(blocks), batch_size):
            ids = np.asarray(blocks[start : start + batch_size], dtype=np.int64)
            logits = run(ids)[:, :-1].reshape(ids.shape[0] * (ids.shape[1] - 1), -1)
            losses.append(token_losses(logits, ids[:, 1:].reshape(-1)))
            decisions.append(np.asarray(logits.argmax(axis=-1), dtype=np.int64))
            advance(len(ids))
    found, all_losses = np.concatenate(decisions), np.concatenate(losses)
    targets = np.asarray(blocks, dtype=np.int64)[:, 1:].reshape(-1)
    metrics = metrics_of(float(np.mean(all_losses)), bytes_per_token)
    metrics["next_token_accuracy"] = float(np.mean(found == targets))
    return LanguageEvaluation(metrics, found, all_losses.reshape(len(blocks), -1))
