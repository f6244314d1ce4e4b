"""What a trained module answers for rows, and what its head took of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tledge.batches import Columns
from tledge.precision import training_device
from tledge.train.objective import Loss
from tledge.train.order import by_length

ROWS = 64
"""Of one pass; images keep to eight."""


@dataclass(frozen=True, slots=True)
class Answers:
    """`logits`, `(rows, labels) float32`, and the `features` that the head took, `(rows, n_features) float32`."""

    logits: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]


def answers(module: nn.Module, dropout: nn.Module, columns: Columns) -> Answers:
    """What a module answers for all rows, in eval mode.

    Args:
        module: takes a batch's tensors and gives `logits`; left on the device that trains.
        dropout: the part of it that stands before its head.
        columns: the rows, whose `labels` are not looked at.
    """
    heard: list[Tensor] = []
    listening = dropout.register_forward_pre_hook(lambda _, args: heard.append(args[0].float().cpu()))
    device = training_device()
    module.to(device).eval()
    logits: list[Tensor] = []
    here = columns.on(device)
    batches = by_length(len(columns), columns.lengths, 8 if columns.large else ROWS)
    try:
        with torch.no_grad():
            for rows in batches:
                taken = here.take(torch.from_numpy(rows), 0)
                batch = here.finish({name: each.to(device) for name, each in taken.items()}, 0)
                batch.pop("labels", None)
                logits.append(module(**batch)["logits"].float().cpu())
    finally:
        listening.remove()
    order = np.argsort(np.concatenate(batches))
    return Answers(torch.cat(logits).numpy()[order], torch.cat(heard).numpy()[order])


class Some(Columns):
    """Some rows of columns, with labels of their own."""

    def __init__(self, columns: Columns, rows: npt.NDArray[np.int64], labels: Tensor) -> None:
        self.columns, self.rows, self.labels = columns, rows, labels
        self.lengths = None if columns.lengths is None else columns.lengths[rows]
        self.decodes, self.large = columns.decodes, columns.large

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:
        """Their tensors, and `labels`."""
        chosen = torch.from_numpy(self.rows)[rows]
        return self.columns.take(chosen, seed) | {"labels": self.labels[rows]}

    def finish(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """As the columns finish it."""
        return self.columns.finish(batch, seed)

    def on(self, device: torch.device) -> Some:
        """On the device, if they fit."""
        return Some(self.columns.on(device), self.rows, self.labels)


def labelled(columns: Columns, targets: npt.NDArray[Any], rows: npt.NDArray[np.int64] | None = None) -> Some:
    """Rows of columns as those of a training: all of them, or some, with a target for each of those."""
    chosen = np.arange(len(columns)) if rows is None else np.asarray(rows)
    return Some(columns, chosen, torch.from_numpy(np.array(targets)))


def row_losses(loss: Loss, logits: npt.NDArray[Any], targets: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The loss of each row alone, `(rows,)`."""
    outputs, wanted = torch.from_numpy(logits), torch.from_numpy(np.array(targets))
    return np.array([float(loss(outputs[i : i + 1], wanted[i : i + 1])) for i in range(len(outputs))])
