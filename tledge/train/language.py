"""Training language models: blocks of tokens in, the loss of each next token out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tledge.batches import Columns, fits
from tledge.train.vocabulary import block_losses, language_head, sum_over_tokens


class TokenBlocks(Columns):
    """Blocks of token ids as the rows of a training.

    A batch has `input_ids`, `attention_mask`, of ones, and `labels`, which are the ids, each `(batch, block) int64`.
    """

    def __init__(self, blocks: npt.NDArray[Any]) -> None:
        """Blocks `(blocks, block)` of any integer type, which may be mapped from disk."""
        self._blocks = blocks
        self._here: Tensor | None = None

    def __len__(self) -> int:
        return len(self._blocks)

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:  # noqa: ARG002
        """The batch of these rows."""
        if self._here is None:
            ids = torch.from_numpy(np.asarray(self._blocks[rows.numpy()], dtype=np.int64))
        else:
            ids = self._here.index_select(0, rows.to(self._here.device, non_blocking=True)).long()
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}

    def on(self, device: torch.device) -> TokenBlocks:
        """On a GPU, if they fit."""
        moved = TokenBlocks(self._blocks)
        if device.type == "cuda" and fits(4 * self._blocks.size, device):
            moved._here = torch.from_numpy(np.asarray(self._blocks, dtype=np.int32)).to(device)
        return moved


class NextToken(nn.Module):
    """A causal language model of transformers that trains to predict each next token of a block.

    In training it gives `loss_sum`, the cross-entropy summed over all predicted tokens, a scalar, for the objective
    `token_loss`. In eval mode it gives `token_losses`, `(batch, block - 1) float32`, in nats. Logits of all tokens
    are never in memory at once.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        label_smoothing: float = 0.0,
        on_training: Callable[[nn.Module], None] | None = None,
    ) -> None:
        """Wrap a model.

        Args:
            model: a `PreTrainedModel` with a language-model head; adapters inside of it train as they are.
            label_smoothing: the share of the target that is spread evenly over the vocabulary.
            on_training: called with the model whenever it was put into training mode, such as to keep frozen blocks in
                eval mode.
        """
        super().__init__()
        self.model = model
        self._label_smoothing, self._on_training = label_smoothing, on_training
        device = next(model.parameters()).device
        ids = torch.arange(4, device=device)[None]
        self._student_head = language_head(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})

    def train(self, mode: bool = True) -> NextToken:
        """As for any module."""
        super().train(mode)
        if mode and self._on_training is not None:
            self._on_training(self.model)
        return self

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """The losses; see the class.

        Args:
            input_ids: `(batch, block) int64`.
            attention_mask: `(batch, block) int64`, ones.
        """
        batch = {"input_ids": input_ids, "attention_mask": attention_mask}
        if not self.training:
            return {"token_losses": block_losses(self._student_head, batch)}
        states, targets = self._student_head.hidden(batch)[:, :-1].flatten(0, 1), input_ids[:, 1:].flatten()

        def of_some(logits: Tensor, part: slice) -> Tensor:
            return F.cross_entropy(
                logits.float(), targets[part], reduction="sum", label_smoothing=self._label_smoothing
            )

        return {"loss_sum": sum_over_tokens(states, self._student_head.head, of_some)}
