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
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from tledge.artifacts import write_json
from tledge.batches import Tokens, places
from tledge.errors import ModelError
from tledge.progress import Progress

_LEFT_BEHIND_S = 24 * 3600
BATCH = {"cpu": (4096, 64), "cuda": (65536, 1024)}
"""Tokens and rows of one pass through the backbone, at most."""

Compute = Callable[[dict[str, Tensor]], Tensor]
"""Input tensors to `(batch, hidden)` features or `(batch, sequence, hidden)` activations."""


@dataclass(frozen=True, slots=True)
class Features:
    """Vectors on disk.

    `vectors` is `(vectors, hidden)`, float32 for features and float16 for activations; row i owns those from
    `offsets[i]` to `offsets[i + 1]`.
    """

    vectors: Tensor
    offsets: npt.NDArray[np.int64]
    key: str
    reused: bool

    def __len__(self) -> int:
        return len(self.offsets) - 1


def cached(
    compute: Compute,
    tokens: Tokens,
    texts: Sequence[Any],
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
        tokens: of the texts.
        texts: the rows themselves, by whose content features are found again; a column on disk will do.
        identity: names the weights, the pooling and the precision that `compute` runs, and the tokenizer.
        hidden_size: width of a vector.
        per_token: one vector for each token instead of one for each row.
        folder: the cache; each set of features is a folder in it.
        progress: shown by rows.
        description: what the progress bar says.
        device: where `compute` runs.

    Raises:
        ModelError: activations do not fit float16.
    """
    key = _key(texts, identity, per_token)
    facts = {"identity": identity, "rows": len(texts), "per_token": per_token}
    home, reused = kept(
        folder,
        key,
        facts,
        lambda aside: _compute(compute, tokens, aside, hidden_size, per_token, progress, description, device),
    )
    # Copied on write, for torch does not take arrays that cannot be written to.
    vectors = torch.from_numpy(np.load(home / "vectors.npy", mmap_mode="c"))
    return Features(vectors, np.load(home / "offsets.npy"), key, reused)


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
    tokens: Tokens,
    folder: Path,
    hidden_size: int,
    per_token: bool,
    progress: Progress,
    description: str,
    device: torch.device,
) -> None:
    offsets = tokens.offsets if per_token else np.arange(len(tokens) + 1)
    dtype = np.dtype(np.float16 if per_token else np.float32)
    vectors = new_array(folder, (int(offsets[-1]), hidden_size), dtype, f"{len(tokens):,} texts")
    here = tokens.on(device)
    with progress(description, total=len(tokens)) as advance, torch.inference_mode():
        for rows in _batches(tokens.lengths, device):
            inputs = {name: tensor.to(device) for name, tensor in here.take(rows, 0).items()}
            result = compute(inputs).float()
            if per_token:
                mask = inputs["attention_mask"].bool()
                if result.shape[:2] != mask.shape:  # XLNet's blocks have the tokens first
                    raise ModelError(
                        f"the blocks of this backbone give {tuple(result.shape[:2])} for {tuple(mask.shape)} (texts, "
                        "tokens), so that their activations cannot be cached: set finetune.cache: false"
                    )
                at, inside = places(offsets, rows, tokens.pads_left, here.buckets)
                vectors[at[inside].numpy()] = float16(result[mask].cpu())
            else:
                vectors[rows.numpy()] = result.cpu().numpy()
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


def _batches(lengths: npt.NDArray[np.int64], device: torch.device) -> Iterator[Tensor]:
    """Row numbers of like length together, the longest first, so that what needs too much memory fails at once."""
    most_tokens, most_rows = BATCH.get(device.type, BATCH["cpu"])
    order = torch.from_numpy(np.argsort(-lengths, kind="stable"))
    at = 0
    while at < len(order):
        size = min(most_rows, max(1, most_tokens // int(lengths[order[at]])))
        yield order[at : at + size]
        at += size


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
