"""Features of images from a frozen backbone, or activations at a freeze boundary, kept on disk with all their views."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tledge.model.features import Compute, float16, kept, new_array
from tledge.model.pictures import Pictures
from tledge.progress import Progress

BATCH = {"cuda": 256, "cpu": 8}  # images of one pass: on a CPU what fits into its cache is faster than more
AHEAD = 2  # batches that are read while the backbone runs


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """Arrays on disk: `vectors` is `(rows, views, ...)`, float32 for features and float16 for activations."""

    vectors: Tensor
    key: str
    reused: bool


def cached(
    compute: Compute,
    pictures: Pictures,
    opened: Callable[[], Pictures],
    *,
    views: int,
    seed: int,
    identity: str,
    half: bool,
    folder: Path,
    progress: Progress,
    description: str,
    device: torch.device,
) -> ImageFeatures:
    """What `compute` gives for every view of every image, from the folder if it is there, else computed and kept.

    Args:
        compute: the frozen part of the model, run in inference mode; `pixel_values` to `(batch, ...)`.
        pictures: the rows and how they are changed.
        opened: gives the same, kept decoded where they will be needed again; called where something must be computed.
        views: copies of each image, differently changed; 1 where images are left as they are.
        seed: of the changes.
        identity: names the weights that `compute` runs and where it stops.
        half: keep float16.
        folder: the cache; each set of features is a folder in it.
        progress: shown by rows.
        description: what the progress bar says.
        device: where `compute` runs.

    Raises:
        ModelError: activations do not fit float16, or all of them do not fit on the disk.
        InputError: a row holds no image that can be read.
    """
    key = hashlib.sha256(f"{identity} {half} {pictures.digest(views, seed)}".encode()).hexdigest()[:32]
    facts = {"identity": identity, "rows": len(pictures), "views": views}
    home, reused = kept(
        folder,
        key,
        facts,
        lambda aside: _compute(compute, opened(), views, seed, aside, half, progress, description, device),
    )
    # Copied on write, for torch does not take arrays that cannot be written to.
    return ImageFeatures(torch.from_numpy(np.load(home / "vectors.npy", mmap_mode="c")), key, reused)


def _compute(
    compute: Compute,
    pictures: Pictures,
    views: int,
    seed: int,
    folder: Path,
    half: bool,
    progress: Progress,
    description: str,
    device: torch.device,
) -> None:
    vectors: npt.NDArray[Any] | None = None
    with progress(description, total=len(pictures)) as advance, torch.inference_mode():
        for rows, taken in _read(pictures.on(device), views, seed, BATCH.get(device.type, 8)):
            batch = {name: tensor.to(device, non_blocking=True) for name, tensor in taken.items()}
            result = compute(pictures.finish(batch, seed)).float().cpu()
            if vectors is None:
                shape = (len(pictures), views, *result.shape[1:])
                vectors = new_array(
                    folder,
                    shape,
                    np.dtype(np.float16 if half else np.float32),
                    f"{shape[0]:,} images in {shape[1]} views",
                    "finetune.augmentation.views to fewer",
                )
            array = float16(result) if half else result.numpy()
            vectors[rows.start : rows.stop] = array.reshape(len(rows), views, *array.shape[1:])
            advance(len(rows))
    assert vectors is not None, "there are no rows"
    vectors.flush()  # type: ignore[attr-defined]


def _read(pictures: Pictures, views: int, seed: int, batch: int) -> Iterator[tuple[range, dict[str, Tensor]]]:
    """Rows with their views in order, so many views at once, read in a thread while the backbone runs."""
    size = max(1, batch // views)
    waiting: deque[tuple[range, Future[dict[str, Tensor]]]] = deque()
    with ThreadPoolExecutor(1) as ahead:
        for start in range(0, len(pictures), size):
            rows = range(start, min(start + size, len(pictures)))
            waiting.append((rows, ahead.submit(pictures.views, rows, views, seed)))
            if len(waiting) > AHEAD:
                rows, taken = waiting.popleft()
                yield rows, taken.result()
        for rows, taken in waiting:
            yield rows, taken.result()
