"""Rows as the Trainer takes them: a list of row numbers in, a batch of tensors with `labels` out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

Fetch = Callable[[list[int]], dict[str, Tensor]]
"""Row numbers to the input tensors of a batch; it can be pickled, since worker processes call it too."""

IGNORED = -100.0  # targets of this value are not counted as rows by the Trainer, and padding where outputs are gathered


class Batches(Dataset[Any]):
    """Rows fetched a batch at a time: the loader hands `__getitems__` all row numbers of a batch."""

    def __init__(self, fetch: Fetch, targets: npt.NDArray[Any]) -> None:
        """Rows whose inputs `fetch` gives; `targets` is what the task's `targets` gives."""
        self._fetch = fetch
        self._targets = torch.from_numpy(np.array(targets))
        if self._targets.is_floating_point():
            self._targets[self._targets == IGNORED] = float(np.nextafter(np.float32(IGNORED), np.float32(0)))

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return self.__getitems__([row])

    def __getitems__(self, rows: list[int]) -> dict[str, Tensor]:
        """The batch of these rows."""
        return {**self._fetch(rows), "labels": self._targets[rows]}
