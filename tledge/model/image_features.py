"""Features of images from a frozen backbone, or activations at a freeze boundary, kept on disk with all their views."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from tledge.model.features import Compute, float16, kept, new_array
from tledge.model.images import Images
from tledge.progress import Progress

BATCH = {"cuda": 64, "cpu": 8}  # images of one pass: on a CPU what fits into its cache is faster than more
AHEAD = 2  # batches that are decoded while the backbone runs


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """Arrays on disk: `vectors` is `(rows, views, ...)`, float32 for features and float16 for activations."""

    vectors: Tensor
    key: str
    reused: bool


def cached(
    compute: Compute,
    images: Images,
    *,
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
        images: the rows and their views.
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
    key = hashlib.sha256(f"{identity} {half} {images.digest()}".encode()).hexdigest()[:32]
    facts = {"identity": identity, "rows": len(images), "views": images.views}
    home, reused = kept(
        folder, key, facts, lambda aside: _compute(compute, images, aside, half, progress, description, device)
    )
    vectors = torch.from_numpy(np.load(home / "vectors.npy", mmap_mode="c"))
    return ImageFeatures(vectors, key, reused)


def _compute(
    compute: Compute,
    images: Images,
    folder: Path,
    half: bool,
    progress: Progress,
    description: str,
    device: torch.device,
) -> None:
    vectors: npt.NDArray[Any] | None = None
    with progress(description, total=len(images)) as advance, torch.inference_mode():
        for rows, views in _decoded(images, BATCH.get(device.type, 8)):
            # Convolutions are a fifth faster with the channels last, though the weights have them first.
            tensors = {
                name: tensor.to(device, memory_format=torch.channels_last)
                for name, tensor in images.tensors(views).items()
            }
            result = compute(tensors).float().cpu()
            if vectors is None:
                shape = (len(images), images.views, *result.shape[1:])
                vectors = new_array(
                    folder,
                    shape,
                    np.dtype(np.float16 if half else np.float32),
                    f"{shape[0]:,} images in {shape[1]} views",
                    "finetune.augmentation.views to fewer",
                )
            array = float16(result) if half else result.numpy()
            vectors[rows.start : rows.stop] = array.reshape(len(rows), images.views, *array.shape[1:])
            advance(len(rows))
    assert vectors is not None, "there are no rows"
    vectors.flush()  # type: ignore[attr-defined]


def _decoded(images: Images, batch: int) -> Iterator[tuple[range, list[Image.Image]]]:
    """Batches of rows with their views in order, read and changed in threads while the backbone runs."""
    size = max(1, batch // images.views)
    waiting: deque[tuple[range, list[Future[list[Image.Image]]]]] = deque()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(images), size):
            rows = range(start, min(start + size, len(images)))
            waiting.append((rows, [pool.submit(images.kept_views, row, images.values[row]) for row in rows]))
            if len(waiting) > AHEAD:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())


def _finished(rows: range, futures: list[Future[list[Image.Image]]]) -> tuple[range, list[Image.Image]]:
    return rows, [image for future in futures for image in future.result()]
