"""Features of a frozen backbone, computed once and kept on disk.

Each set is a folder that is named by the hash of everything that it depends on: the weights that ran, the pooling, the
preprocessing and the rows themselves. Two kinds for texts share one layout: pooled `features`, one vector a row, and
`activations` at a freeze boundary, one vector a token. Both are flat arrays of vectors with row offsets. Those of
images are in `image_features`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from tledge.artifacts import write_json
from tledge.errors import ModelError
from tledge.progress import Progress

CHUNK = 4096  # rows that are encoded and sorted by length together: bounds memory, and short rows meet short rows
_LEFT_BEHIND_S = 24 * 3600
BATCH_TOKENS = 4096  # tokens of one pass through the backbone

Compute = Callable[[dict[str, Tensor]], Tensor]
"""Input tensors to `(batch, hidden)` features or `(batch, sequence, hidden)` activations."""


class Encoder(Protocol):
    """Raw values to input tensors; `identity` names what the result depends on."""

    @property
    def identity(self) -> str: ...

    def encode(self, values: Sequence[Any]) -> dict[str, npt.NDArray[Any]]: ...


@dataclass(frozen=True, slots=True)
class Features:
    """Vectors on disk.

    `vectors` is `(vectors, hidden)`, float32 for features and float16 for activations; row i owns those from
    `offsets[i]` to `offsets[i + 1]`.
    """

    vectors: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    key: str
    reused: bool

    def __len__(self) -> int:
        return len(self.offsets) - 1


def cached(
    compute: Compute,
    encoder: Encoder,
    texts: Sequence[str],
    *,
    identity: str,
    hidden_size: int,
    per_token: bool,
    folder: Path,
    progress: Progress,
    description: str,
    device: torch.device,
) -> Features:
    """The features of all texts, from the folder if they are there, else computed and kept.

    Args:
        compute: the frozen part of the model, run in inference mode.
        encoder: texts to tensors.
        texts: the rows; a column on disk will do.
        identity: names the weights and the pooling that `compute` runs.
        hidden_size: width of a vector.
        per_token: one vector for each token instead of one for each row.
        folder: the cache; each set of features is a folder in it.
        progress: shown by rows.
        description: what the progress bar says.
        device: where `compute` runs.

    Raises:
        ModelError: activations do not fit float16.
    """
    key = _key(texts, identity, encoder.identity, per_token)
    facts = {"identity": identity, "rows": len(texts), "per_token": per_token}
    home, reused = kept(
        folder,
        key,
        facts,
        lambda aside: _compute(compute, encoder, texts, aside, hidden_size, per_token, progress, description, device),
    )
    return Features(
        np.load(home / "vectors.npy", mmap_mode="r"),
        np.load(home / "offsets.npy", mmap_mode="r"),
        key,
        reused,
    )


def kept(folder: Path, key: str, facts: Mapping[str, Any], write: Callable[[Path], None]) -> tuple[Path, bool]:
    """The folder of a set of features, and whether it was there before; written aside and renamed when it was not.

    Args:
        folder: the cache.
        key: names the set.
        facts: what is told of it in its `features.json`, whose presence means that the set is whole.
        write: fills the folder that it is given.
    """
    home = folder / key
    if (home / "features.json").exists():
        return home, True
    shutil.rmtree(home, ignore_errors=True)
    _sweep(folder)
    aside = folder / f"{key}.{os.getpid()}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        write(aside)
        write_json(aside / "features.json", facts)
        with suppress(OSError):  # another process may have been here first, with the same features
            os.replace(aside, home)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return home, False


def _sweep(folder: Path) -> None:
    """Delete what processes that were killed have left half-written: folders in which nothing changed for a day."""
    for aside in folder.glob("*.partial"):
        with suppress(OSError):
            if time.time() - max(path.stat().st_mtime for path in (aside, *aside.iterdir())) > _LEFT_BEHIND_S:
                shutil.rmtree(aside)


def _key(texts: Iterable[str | tuple[str, ...]], *parts: object) -> str:
    digest = hashlib.sha256(json.dumps([str(part) for part in parts]).encode())
    for text in texts:
        for part in (text,) if isinstance(text, str) else text:
            raw = part.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "little"))
            digest.update(raw)
    return digest.hexdigest()[:32]


def _compute(
    compute: Compute,
    encoder: Encoder,
    texts: Sequence[str],
    folder: Path,
    hidden_size: int,
    per_token: bool,
    progress: Progress,
    description: str,
    device: torch.device,
) -> None:
    lengths = _lengths(encoder, texts) if per_token else np.ones(len(texts), np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    dtype = np.float16 if per_token else np.float32
    vectors = new_array(folder, (int(offsets[-1]), hidden_size), np.dtype(dtype), f"{len(texts):,} texts")
    with progress(description, total=len(texts)) as advance, torch.inference_mode():
        for rows, inputs in _batches(encoder, texts):
            tensors = {name: torch.from_numpy(array).to(device) for name, array in inputs.items()}
            result = compute(tensors).float().cpu()
            if per_token:
                mask = torch.from_numpy(inputs["attention_mask"]).bool()
                if result.shape[:2] != mask.shape:  # XLNet's blocks have the tokens first
                    raise ModelError(
                        f"the blocks of this backbone give {tuple(result.shape[:2])} for {tuple(mask.shape)} (texts, "
                        "tokens), so that their activations cannot be cached: set finetune.cache: false"
                    )
                for row, hidden, keep in zip(rows, result, mask, strict=True):
                    vectors[offsets[row] : offsets[row + 1]] = float16(hidden[keep])
            else:
                vectors[rows] = result.numpy()
            advance(len(rows))
    vectors.flush()
    np.save(folder / "offsets.npy", offsets)


def new_array(
    folder: Path, shape: tuple[int, ...], dtype: np.dtype[Any], what: str, or_set: str = ""
) -> np.memmap[Any, np.dtype[Any]]:
    """The array of features that is to be filled, on disk; `what` they are of and what else could be set, in words.

    Raises:
        ModelError: the disk has no room for it.
    """
    needed, free = int(np.prod(shape)) * dtype.itemsize, shutil.disk_usage(folder).free
    if needed > free:
        raise ModelError(
            f"the features of {what} take {needed / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB free; set "
            f"finetune.cache: false, {f'{or_set}, ' if or_set else ''}or TLEDGE_CACHE to a folder with more room"
        )
    return open_memmap(folder / "vectors.npy", mode="w+", dtype=dtype, shape=shape)


def _lengths(encoder: Encoder, texts: Sequence[str]) -> npt.NDArray[np.int64]:
    lengths = [
        encoder.encode(texts[start : start + CHUNK])["attention_mask"].sum(1) for start in range(0, len(texts), CHUNK)
    ]
    return np.concatenate(lengths).astype(np.int64)


def _batches(encoder: Encoder, texts: Sequence[str]) -> Iterator[tuple[list[int], dict[str, npt.NDArray[Any]]]]:
    """Rows of like length together, cut to their own padding."""
    for start in range(0, len(texts), CHUNK):
        encoded = encoder.encode(texts[start : start + CHUNK])
        lengths = encoded["attention_mask"].sum(1)
        order = np.argsort(lengths, kind="stable")
        at = 0
        while at < len(order):
            size = max(1, BATCH_TOKENS // int(lengths[order[min(at + 63, len(order) - 1)]]))
            rows = order[at : at + min(size, 64)]
            yield (
                [start + int(r) for r in rows],
                _trim({name: array[rows] for name, array in encoded.items()}),
            )
            at += len(rows)


def _trim(inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Without the columns that are padding in every row."""
    used = np.flatnonzero(inputs["attention_mask"].any(axis=0))
    return {name: array[:, used[0] : used[-1] + 1] for name, array in inputs.items()}


def float16(activations: Tensor) -> npt.NDArray[np.float16]:
    """Activations in half precision.

    Raises:
        ModelError: one of them is too large for it, or no number.
    """
    if not bool((activations.abs() < torch.finfo(torch.float16).max).all()):
        raise ModelError(
            "activations at the freeze boundary do not fit float16, so they cannot be cached: set finetune.cache: false"
        )
    return activations.half().numpy()
