"""Training language models: blocks of tokens in, the loss of each next token out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from tledge.train.vocabulary import block_losses, language_head, sum_over_tokens


class TokenBlocks(Dataset[Any]):
    """Blocks of token ids as the Trainer takes them: a list of row numbers in, a batch out.

    A batch has `input_ids`, `attention_mask`, of ones, and `labels`, which are the ids, each `(batch, block) int64`.
    """

    def __init__(self, blocks: npt.NDArray[Any]) -> None:
        """Blocks `(blocks, block)` of any integer type, which may be mapped from disk."""
        self._blocks = blocks

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return self.__getitems__([row])

    def __getitems__(self, rows: list[int]) -> dict[str, Tensor]:
        """The batch of these rows."""
        ids = torch.from_numpy(np.asarray(self._blocks[rows], dtype=np.int64))
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}


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
