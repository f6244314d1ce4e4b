"""Training masked language models: blocks of tokens in, the loss of each hidden token out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tledge.batches import Columns
from tledge.masks import IGNORED, Masking
from tledge.train.vocabulary import chunks


class MaskedBlocks(Columns):
    """Blocks of token ids as the rows of a training, in which other words are hidden each time.

    A batch has `input_ids`, `attention_mask` of ones, where asked for `token_type_ids` of zeros, and `labels` and
    `targets`, which are the hidden tokens and `IGNORED` elsewhere, each `(batch, length) int64`.
    """

    def __init__(
        self, blocks: npt.NDArray[Any], masking: Masking, *, fixed: bool = False, has_types: bool = False
    ) -> None:
        """Keep blocks.

        Args:
            blocks: `(blocks, block)` of any integer type, which may be mapped from disk, without special tokens around
                each.
            masking: hides words.
            fixed: hide the same words each time, as for scoring.
            has_types: whether the model takes `token_type_ids`.
        """
        self._blocks, self._masking, self._fixed, self._has_types = blocks, masking, fixed, has_types
        parts = (blocks[start : start + CHUNK] for start in range(0, len(blocks), CHUNK))
        self._counted = np.concatenate([self._asked(part) for part in parts])

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def counted(self) -> npt.NDArray[np.int64]:  # type: ignore[override]
        """How many tokens are hidden in each block, `(blocks,) int64`."""
        return self._counted

    def _asked(self, blocks: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        if not self._fixed:
            return self._masking.n_asked(blocks)
        return (self._masking.fixed(self._masking.framed(blocks))[1] != IGNORED).sum(axis=1)

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:
        """The batch of these rows."""
        ids = self._masking.framed(self._blocks[rows.numpy()])
        shown, wanted = self._masking.fixed(ids) if self._fixed else self._masking.for_training(ids, seed)
        tokens, labels = torch.from_numpy(shown), torch.from_numpy(wanted)
        batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels, "targets": labels}
        return batch | ({"token_type_ids": torch.zeros_like(tokens)} if self._has_types else {})


CHUNK = 1 << 14
"""Blocks that are looked at together."""
JUDGED = "judged"


class HiddenTokens(nn.Module):
    """A masked language model of transformers that trains to say what hidden tokens were.

    In training it gives `loss_sum`, the cross-entropy summed over all hidden tokens, a scalar, for `hidden_loss`. In
    eval mode it gives `judged`, `(batch, length, 2) float32`: the loss of each hidden token in nats, else 0, and its
    likeliest token, else `IGNORED`. Its head sees the hidden tokens alone.
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
            model: a `PreTrainedModel` with a head for hidden words; adapters inside of it train as they are.
            label_smoothing: the share of the target that is spread evenly over the vocabulary.
            on_training: called with the model whenever it was put into training mode.
        """
        super().__init__()
        self.model = model
        self._label_smoothing, self._on_training = label_smoothing, on_training
        self._by_token = self._reads_by_token()

    def train(self, mode: bool = True) -> HiddenTokens:
        """As for any module."""
        super().train(mode)
        if mode and self._on_training is not None:
            self._on_training(self.model)
        return self

    def forward(self, targets: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        """The losses; see the class.

        Args:
            targets: `(batch, length) int64`, `IGNORED` where nothing is hidden.
            inputs: `input_ids` and `attention_mask`, `(batch, length) int64`, and what else the model reads.
        """
        asked = targets != IGNORED
        logits, wanted = self._logits(inputs, asked).float(), targets[asked]
        if self.training:
            return {"loss_sum": F.cross_entropy(logits, wanted, reduction="sum", label_smoothing=self._label_smoothing)}
        losses, tokens = torch.zeros(targets.shape, device=logits.device), targets.float()
        parts = list(chunks(len(wanted), logits.shape[-1]))
        each = [F.cross_entropy(logits[part], wanted[part], reduction="none") for part in parts]
        losses[asked] = torch.cat(each) if each else losses[asked]
        tokens[asked] = logits.argmax(dim=-1).float()
        return {JUDGED: torch.stack([losses, tokens], dim=-1)}

    def _logits(self, inputs: Mapping[str, Tensor], asked: Tensor) -> Tensor:
        """Of the tokens asked for, `(tokens, vocabulary)`."""
        if not self._by_token:
            return self.model(**inputs).logits[asked]
        body = cast("nn.Module", self.model.base_model)

        def chosen(_module: nn.Module, _args: Any, output: Any) -> Any:
            output.last_hidden_state = output.last_hidden_state[asked][None]
            return output

        handle = body.register_forward_hook(chosen)
        try:
            return self.model(**inputs).logits[0]
        finally:
            handle.remove()

    def _reads_by_token(self) -> bool:
        """Whether the head makes logits of each token by itself, out of the last hidden states: seen on a batch."""
        device = next(self.model.parameters()).device
        ids = torch.arange(8, device=device).reshape(2, 4)
        inputs, asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, ids % 3 == 1
        self.model.eval()
        with torch.no_grad():
            expected = self.model(**inputs).logits[asked]
            self._by_token = True
            try:
                found = self._logits(inputs, asked)
            except (AttributeError, TypeError, RuntimeError, IndexError):
                return False
        return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def hidden_loss(outputs: Mapping[str, Tensor], labels: Tensor, n_items: int | Tensor | None) -> Tensor:
    """The mean over hidden tokens; `labels` are `(batch, length) int64`, `IGNORED` where nothing is hidden."""
    total = outputs["loss_sum"] if "loss_sum" in outputs else outputs[JUDGED][..., 0].sum()
    return total / ((labels != IGNORED).sum().clamp(min=1) if n_items is None else n_items)
