"""Named tensors of rows, from which batches are cut."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

SHARE_OF_FREE_MEMORY = 4
"""Columns move to a device whole when they take no more than one part in so many of its free memory."""


class Columns:
    """Tensors by name, one row of each for a row of a training.

    A batch comes in two steps: `take` on the host or wherever the tensors lie, which may run ahead in a thread, and
    `finish` on the device that trains. Both get the same number `seed`, from which all that is random about a batch is
    drawn, so that a batch is the same whoever makes it, and when.

    `lengths` are the numbers of tokens of each row, `(rows,) int64`, by which like rows are put together; `None` where
    all rows are alike. `counted` are the numbers of labels of each row that its loss counts, `(rows,) int64`; `None`
    where those of all rows do. `decodes` says whether rows are read from image files for each batch, and `large`
    whether a row takes so much memory that no more are scored at once than train.
    """

    lengths: npt.NDArray[np.int64] | None = None
    counted: npt.NDArray[np.int64] | None = None
    decodes: bool = False
    large: bool = False

    def __len__(self) -> int:
        raise NotImplementedError

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:
        """The tensors of a batch by name; `rows` are numbers, `(batch,) int64` on the host."""
        raise NotImplementedError

    def finish(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:  # noqa: ARG002
        """What is done to a batch on the device that trains; nothing unless a kind of columns says otherwise."""
        return batch

    def on(self, device: torch.device) -> Columns:  # noqa: ARG002
        """The same columns for training on a device: their tensors are there if they fit."""
        return self

    def at(self, epochs_left: float) -> Columns:  # noqa: ARG002
        """The same columns as they are with so many epochs left to train; the same in all unless a kind says so."""
        return self

    def batch(self, rows: Any, seed: int = 0) -> dict[str, Tensor]:
        """A finished batch of some rows on the device where it lies, for trying something out."""
        return self.finish(self.take(torch.as_tensor(rows, dtype=torch.int64), seed), seed)


@dataclass(frozen=True, eq=False)
class Values(Columns):
    """One tensor a name, `(rows, ...)` of any type; halves come out as `float32`."""

    tensors: dict[str, Tensor]
    lengths: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:  # noqa: ARG002
        """The rows of each tensor."""
        here = rows.to(next(iter(self.tensors.values())).device, non_blocking=True)
        return {name: full(tensor.index_select(0, here)) for name, tensor in self.tensors.items()}

    def on(self, device: torch.device) -> Values:
        """On the device, if they fit."""
        if not fits(sum(tensor.nbytes for tensor in self.tensors.values()), device):
            return self
        return replace(self, tensors={name: tensor.to(device) for name, tensor in self.tensors.items()})


@dataclass(frozen=True, eq=False)
class Views(Columns):
    """Of each row several versions, `(rows, views, ...)`, of which a batch gets one each, drawn from its seed."""

    name: str
    vectors: Tensor

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:
        """One view of each row, `(batch, ...)`."""
        views = self.vectors.shape[1]
        generator = torch.Generator().manual_seed(seed)
        chosen = rows * views + torch.randint(views, (len(rows),), generator=generator)
        flat = self.vectors.reshape(-1, *self.vectors.shape[2:])
        return {self.name: full(flat.index_select(0, chosen.to(flat.device, non_blocking=True)))}

    def on(self, device: torch.device) -> Views:
        """On the device, if they fit."""
        return replace(self, vectors=self.vectors.to(device)) if fits(self.vectors.nbytes, device) else self


class Beside(Columns):
    """Several columns of the same rows, whose names differ."""

    def __init__(self, *columns: Columns) -> None:
        self.columns = columns

    @property
    def lengths(self) -> npt.NDArray[np.int64] | None:  # type: ignore[override]
        """Those of the first columns that have some."""
        return next((each.lengths for each in self.columns if each.lengths is not None), None)

    @property
    def counted(self) -> npt.NDArray[np.int64] | None:  # type: ignore[override]
        """Those of the columns that have some."""
        return next((each.counted for each in self.columns if each.counted is not None), None)

    @property
    def decodes(self) -> bool:  # type: ignore[override]
        """Whether one of them does."""
        return any(each.decodes for each in self.columns)

    @property
    def large(self) -> bool:  # type: ignore[override]
        """Whether one of them is."""
        return any(each.large for each in self.columns)

    def __len__(self) -> int:
        return len(self.columns[0])

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:
        """The tensors of all."""
        return {name: tensor for each in self.columns for name, tensor in each.take(rows, seed).items()}

    def finish(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """One after the other."""
        for each in self.columns:
            batch = each.finish(batch, seed)
        return batch

    def at(self, epochs_left: float) -> Beside:
        """Each as it then is."""
        return Beside(*(each.at(epochs_left) for each in self.columns))

    def on(self, device: torch.device) -> Beside:
        """Each on the device, if it fits."""
        return Beside(*(each.on(device) for each in self.columns))


def full(tensor: Tensor) -> Tensor:
    """Halves as `float32`, all else as it is."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def fits(n_bytes: int, device: torch.device) -> bool:
    """Whether tensors of that size are to be kept on a device while it trains."""
    if device.type != "cuda":
        return device.type == "cpu"
    free, _ = torch.cuda.mem_get_info(device)
    return n_bytes * SHARE_OF_FREE_MEMORY <= free
