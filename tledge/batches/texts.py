"""Texts as tokens, tokenized once and kept end to end, and batches cut from them without a loop over rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tledge.batches.columns import Columns, fits
from tledge.progress import Progress

CHUNK = 4096
"""Texts that are tokenized at once."""
BUCKETS = ((64, 16), (256, 32), (None, 64))
"""On a GPU texts of up to so many tokens are padded to a multiple of so many, so that few shapes occur."""

IGNORED = -100
"""The label of what no loss counts."""


class Encoder(Protocol):
    """What is needed of an `Input` of `tledge.inputs` that reads texts."""

    @property
    def input_names(self) -> tuple[str, ...]: ...
    @property
    def padding(self) -> Mapping[str, int]: ...
    @property
    def pads_left(self) -> bool: ...
    def tokens(self, values: Sequence[Any]) -> tuple[dict[str, npt.NDArray[np.int32]], npt.NDArray[np.int64]]: ...


@dataclass(frozen=True, eq=False)
class Tokens(Columns):
    """Tokens of texts end to end: row i owns those from `offsets[i]` to `offsets[i + 1]`.

    `flat` is `(tokens,) int32` for `input_ids` and what else but the mask a model reads; a batch has each as
    `(batch, sequence) int64`, padded with `padding` to its longest row, and `attention_mask`. Names begin with
    `prefix`.
    """

    flat: dict[str, Tensor]
    offsets: npt.NDArray[np.int64]
    input_names: tuple[str, ...]
    padding: Mapping[str, int]
    pads_left: bool = False
    prefix: str = ""
    buckets: bool = False

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:  # type: ignore[override]
        """Tokens of each row."""
        return np.diff(self.offsets)

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:  # noqa: ARG002
        """The tokens of each row and their mask."""
        at, inside = places(self.offsets, rows, self.pads_left, self.buckets)
        device = next(iter(self.flat.values())).device
        at, inside = at.to(device, non_blocking=True), inside.to(device, non_blocking=True)
        result = {}
        for name in self.input_names:
            if name == "attention_mask":
                tensor = inside.long()
            else:
                tensor = self.flat[name][at].long().masked_fill_(~inside, self.padding[name])
            result[self.prefix + name] = tensor
        return result

    def on(self, device: torch.device) -> Tokens:
        """On the device, if they fit."""
        buckets = device.type == "cuda"
        if not fits(sum(tensor.nbytes for tensor in self.flat.values()), device):
            return replace(self, buckets=buckets)
        flat = {name: tensor.to(device) for name, tensor in self.flat.items()}
        return replace(self, flat=flat, buckets=buckets)


@dataclass(frozen=True, eq=False)
class TokenVectors(Columns):
    """One vector a token, `(tokens, features)` end to end; a batch has `(batch, sequence, features) float32`.

    Where texts are padded there are zeros.
    """

    name: str
    vectors: Tensor
    offsets: npt.NDArray[np.int64]
    pads_left: bool = False
    buckets: bool = False

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:  # type: ignore[override]
        """Tokens of each row."""
        return np.diff(self.offsets)

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:  # noqa: ARG002
        """The vectors of each row's tokens."""
        at, inside = places(self.offsets, rows, self.pads_left, self.buckets)
        device = self.vectors.device
        at, inside = at.to(device, non_blocking=True), inside.to(device, non_blocking=True)
        result = self.vectors.new_zeros((*at.shape, self.vectors.shape[1]), dtype=torch.float32)
        result[inside] = self.vectors[at[inside]].float()
        return {self.name: result}

    def on(self, device: torch.device) -> TokenVectors:
        """On the device, if they fit."""
        here = self.vectors.to(device) if fits(self.vectors.nbytes, device) else self.vectors
        return replace(self, vectors=here, buckets=device.type == "cuda")


@dataclass(frozen=True, eq=False)
class TokenLabels(Columns):
    """One label a token, `(tokens,) int64` end to end; a batch has `labels`, `(batch, sequence)`, padded with -100.

    Labels below zero count for no loss.
    """

    flat: Tensor
    offsets: npt.NDArray[np.int64]
    pads_left: bool = False
    buckets: bool = False

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def counted(self) -> npt.NDArray[np.int64]:  # type: ignore[override]
        """How many labels of each row count."""
        before = np.append(0, np.cumsum(self.flat.cpu().numpy() >= 0))
        return np.asarray(np.diff(before[self.offsets]), np.int64)

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:  # noqa: ARG002
        """The labels of each row's tokens."""
        at, inside = places(self.offsets, rows, self.pads_left, self.buckets)
        at, inside = (each.to(self.flat.device, non_blocking=True) for each in (at, inside))
        return {"labels": self.flat[at].masked_fill_(~inside, IGNORED)}

    def on(self, device: torch.device) -> TokenLabels:
        """On the device, if they fit."""
        here = self.flat.to(device) if fits(self.flat.nbytes, device) else self.flat
        return replace(self, flat=here, buckets=device.type == "cuda")


def padded_width(longest: int, buckets: bool) -> int:
    """To how many tokens the rows of a batch are padded, of which the longest has so many."""
    multiple = next(each for most, each in BUCKETS if most is None or longest <= most) if buckets else 1
    return -(-longest // multiple) * multiple


def places(
    offsets: npt.NDArray[np.int64], rows: Tensor, pads_left: bool, buckets: bool = False
) -> tuple[Tensor, Tensor]:
    """Where the tokens of some rows lie end to end, and which places of their batch hold one: `(batch, sequence)`."""
    numbers = rows.numpy()
    starts = offsets[numbers]
    lengths = offsets[numbers + 1] - starts
    width = padded_width(int(lengths.max(initial=1)), buckets)
    columns = np.arange(width)
    at = (columns - (width - lengths)[:, None]) if pads_left else np.broadcast_to(columns, (len(numbers), width))
    inside = (at >= 0) & (at < lengths[:, None])
    return torch.from_numpy(np.where(inside, starts[:, None] + at, 0)), torch.from_numpy(inside)


def tokenized(
    encoder: Encoder, values: Sequence[Any], *, progress: Progress, description: str, prefix: str = ""
) -> Tokens:
    """The tokens of all texts, made on all cores.

    Args:
        encoder: the tokenizer.
        values: texts, or what else the encoder takes; a column on disk will do.
        progress: shown by texts.
        description: what the progress bar says.
        prefix: what the names of a batch's tensors begin with.

    Raises:
        InputError: a value is not a text, or gives no token at all.
    """
    parts: list[dict[str, npt.NDArray[np.int32]]] = []
    lengths: list[npt.NDArray[np.int64]] = [np.zeros(1, np.int64)]
    with progress(description, total=len(values)) as advance:
        for start in range(0, len(values), CHUNK):
            some = list(values[start : start + CHUNK])
            tokens, each = encoder.tokens(some)
            parts.append(tokens)
            lengths.append(each)
            advance(len(some))
    return Tokens(
        {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]},
        np.cumsum(np.concatenate(lengths)),
        encoder.input_names,
        encoder.padding,
        encoder.pads_left,
        prefix,
    )
