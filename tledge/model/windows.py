"""Rows of texts of any length, of which a training sees windows, with a label for each token or for each window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tledge.batches import Columns, TokenLabels, Tokens, Values
from tledge.errors import ModelError
from tledge.model.rows import TRAINING, Rows
from tledge.progress import Progress, silent


@dataclass(frozen=True)
class Windows(Rows):
    """Texts and their targets, as `Rows`, whose windows are the rows of a training.

    `encoder` is a `WindowedInput` of `tledge.inputs`, `cuts` are the texts' windows, one entry a text, and `aligned`
    the labels of each window of each text in turn: `(tokens of the window,) int64` where each token has one, or `(1,
    n)` where a window has n.
    """

    encoder: Any
    cuts: Sequence[Any]
    aligned: Sequence[npt.NDArray[np.int64]]

    per_token = True

    @cached_property
    def flat_labels(self) -> npt.NDArray[np.int64]:
        """The labels of all windows end to end."""
        return np.concatenate(self.aligned) if self.aligned else np.zeros(0, np.int64)

    @cached_property
    def counted(self) -> npt.NDArray[np.int64]:
        """The labels that a loss counts, which is none below zero."""
        return self.flat_labels[self.flat_labels >= 0]

    def labels(self) -> Columns:
        """The labels of each window."""
        flat = torch.from_numpy(self.flat_labels)
        if flat.ndim > 1:
            return Values({"labels": flat})
        offsets = np.cumsum([0, *map(len, self.aligned)])
        return TokenLabels(flat, offsets, self.encoder.pads_left)

    def columns(self, encoder: Any, *, progress: Progress = silent, name: str = TRAINING, **_of_images: Any) -> Tokens:  # noqa: ARG002
        """The tokens of each window.

        Raises:
            ModelError: the encoder reads texts with another tokenizer than the labels were made for.
        """
        if encoder.identity != self.encoder.identity:
            raise ModelError(
                "distill.student: it reads texts with another tokenizer than its teacher, so that their tokens cannot "
                "be compared; take a student with the teacher's tokenizer, or one of its layers"
            )
        flat, lengths = encoder.tokens_of(self.cuts)
        return Tokens(
            {kind: torch.from_numpy(array) for kind, array in flat.items()},
            np.cumsum(np.append(0, lengths)),
            encoder.input_names,
            encoder.padding,
            encoder.pads_left,
        )

    def joined(self, outputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
        """The outputs of whole texts from the `logits` of all windows, `(windows, sequence, outputs)`."""
        lengths = [len(ids) for cut in self.cuts for ids in cut.ids]
        return dict(self.encoder.joined(self.values, self.cuts, self.encoder.unpadded(outputs["logits"], lengths)))
