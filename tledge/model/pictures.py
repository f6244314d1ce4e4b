"""Images of rows as batches: decoded once, kept as 8-bit pixels, changed and normalised where the model trains."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from tledge.batches import Augment, Columns, fits
from tledge.batches.augment import Seed
from tledge.model.features import kept
from tledge.progress import Progress
from tledge.runtime.cores import available_cores

LARGEST = 20 * 10**9
"""Bytes of images that are kept at most; what takes more is decoded for each batch."""
FORMAT = 1
"""Goes up when the same images and settings give other pixels."""
THREADS = 16
"""That decode, at most, where a recipe does not say."""
_CHUNK = 64  # images that are decoded before they are written
_SAMPLE = 16  # images that tell how much room all take
_GAP = 4  # pixels between the photos of a contact sheet


class ImageEncoder(Protocol):
    """What is needed of `tledge.inputs.image.ImageInput`."""

    @property
    def identity(self) -> str: ...
    @property
    def facts(self) -> Any: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def table(self) -> npt.NDArray[np.float32]: ...

    def decode(self, value: Any) -> Image.Image: ...
    def fit(self, image: Image.Image) -> Image.Image: ...


@dataclass(frozen=True, eq=False)
class Kept:
    """Decoded images end to end in a file.

    `pixels` is `(rows, height, width, 3) uint8` where all images are of one size, else `(bytes,) uint8`. `sides` is
    `(rows, 4)`: height and width of each image, and those of the file that it comes from.
    """

    pixels: Tensor
    sides: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    reused: bool

    @classmethod
    def load(cls, folder: Path, reused: bool) -> Kept:
        """The images in a folder."""
        sides = np.load(folder / "sides.npy").astype(np.int64)
        # Copied on write, for torch does not take arrays that cannot be written to.
        pixels = torch.from_numpy(np.memmap(folder / "pixels.bin", np.uint8, mode="c"))
        if (sides[:, :2] == sides[0, :2]).all():
            pixels = pixels.view(len(sides), *sides[0, :2].tolist(), 3)
        return cls(pixels, sides, np.cumsum(3 * sides[:, 0] * sides[:, 1]), reused)

    def take(self, rows: list[int]) -> Tensor:
        """The images of some rows, as `together` gives them."""
        if self.pixels.ndim == 4:
            return self.pixels.index_select(0, torch.tensor(rows).to(self.pixels.device, non_blocking=True))
        flat, images = self.pixels.numpy(), []
        for row in rows:
            height, width = self.sides[row, :2].tolist()
            end = int(self.ends[row])
            images.append(flat[end - 3 * height * width : end].reshape(height, width, 3))
        return together(images)


@dataclass(frozen=True, eq=False)
class Pictures(Columns):
    """Images in the model's size and normalisation; `augment` changes them, the same for the same seed and row.

    Batches have `pixel_values`, `(batch, 3, height, width) float32` with the channels last in memory, equal to what the
    encoder gives of an unchanged image; or `(batch, height, width, 3) uint8` where the graph normalises by itself. What
    `take` gives is the images as they are kept, `(batch, height, width, 3) uint8`, and what is done to each. All names
    begin with `prefix`.

    `kept` is `None` for images that are decoded for each batch, in so many `threads`, 0 for that of the caller.
    """

    values: Sequence[Any]
    encoder: ImageEncoder
    augment: Augment | None = None
    prefix: str = ""
    threads: int = 0
    kept: Kept | None = None
    large = True
    _tables: dict[torch.device, Tensor] = field(default_factory=dict)

    @property
    def decodes(self) -> bool:  # type: ignore[override]
        """Whether images are decoded for each batch."""
        return self.kept is None

    @property
    def note(self) -> str:
        """How the images are read, for the report."""
        if self.kept is None:
            return "images are decoded for every batch"
        return f"{len(self):,} images decoded once and kept ({self.kept.pixels.nbytes / 1e6:,.1f} MB)"

    def __len__(self) -> int:
        return len(self.values)

    def keep(self, folder: Path, *, progress: Progress, description: str) -> Pictures:
        """The same images decoded once: found in a folder of the cache, or put there now.

        Nothing is kept where the disk has no room for them, or they are more than `LARGEST`.

        Args:
            folder: the cache; each set of images is a folder in it.
            progress: shown by images.
            description: what the progress bar says.

        Raises:
            InputError: a row holds no image that can be read.
        """
        key = self._key()
        if not (folder / key / "features.json").exists() and self._room() > min(LARGEST, _free(folder)):
            return self
        facts = {"rows": len(self), "pixels": "uint8"}
        home, reused = kept(folder, key, facts, lambda aside: self._write(aside, progress, description))
        return replace(self, kept=Kept.load(home, reused))

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:
        """The images of these rows, and their changes."""
        numbers = rows.tolist()
        return self._taken(numbers, [(seed, row) for row in numbers])

    def views(self, rows: Sequence[int], count: int, seed: int) -> dict[str, Tensor]:
        """So many views of each of some rows, one after the other, as `take` gives a batch; the same for a seed."""
        return self._taken(list(rows), [(seed, row, view) for row in rows for view in range(count)], count)

    def finish(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:  # noqa: ARG002
        """`pixel_values` in place of the images and their changes."""
        images = self.changed(batch).permute(0, 2, 3, 1)
        left = {name: tensor for name, tensor in batch.items() if name not in self._names}
        return left | {f"{self.prefix}pixel_values": self.normalised(images)}

    def changed(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The images of a batch that was taken, changed but not normalised: `(batch, 3, height, width) uint8`."""
        images, *drawn = (batch.get(name) for name in self._names)
        assert images is not None
        if self.augment is None:
            return images.permute(0, 3, 1, 2)
        changes = {name: each for name, each in zip(Augment.NAMES, drawn, strict=True) if each is not None}
        return self.augment(images, changes, self.encoder.size)

    def on(self, device: torch.device) -> Pictures:
        """On the device, if they are of one size and fit."""
        if self.kept is None or self.kept.pixels.ndim != 4 or not fits(self.kept.pixels.nbytes, device):
            return self
        return replace(self, kept=replace(self.kept, pixels=self.kept.pixels.to(device)))

    def digest(self, views: int = 1, seed: int = 0) -> str:
        """SHA-256 of what decides so many views: the images, their preprocessing, their changes and the seed.

        A file counts by its path, size and time of change, so that nothing is decoded to know it again.
        """
        changes = None
        if self.augment is not None:
            left_out = {"views", "mixup", "cutmix"}
            changes = (self.augment.settings.model_dump_json(exclude=left_out), views, seed)
        return self._digest(self.encoder.identity, changes)

    def images(self, rows: list[int]) -> tuple[Tensor, npt.NDArray[np.int64]]:
        """Some rows as they are kept, `(batch, height, width, 3) uint8`, and their `sides` as `Kept` has them."""
        if self.kept is not None:
            return self.kept.take(rows), self.kept.sides[rows]
        decoded = self._decoded(rows)
        return together([image for image, _ in decoded]), np.array([each for _, each in decoded])

    def normalised(self, images: Tensor) -> Tensor:
        """The model's input of images `(batch, height, width, 3) uint8`, through the encoder's own table."""
        if self.encoder.facts.in_graph != "none":
            return images.contiguous()
        if images.device not in self._tables:
            self._tables[images.device] = torch.from_numpy(self.encoder.table).flatten().to(images.device)
        places = images.int() + 256 * torch.arange(3, dtype=torch.int32, device=images.device)
        return self._tables[images.device].index_select(0, places.flatten()).view(images.shape).permute(0, 3, 1, 2)

    @property
    def _names(self) -> list[str]:
        return [self.prefix + name for name in ("pixels", *Augment.NAMES)]

    @property
    def _cuts(self) -> bool:
        return self.augment is not None and self.augment.cuts

    def _taken(self, rows: list[int], seeds: list[Seed], count: int = 1) -> dict[str, Tensor]:
        pixels, sides = self.images(rows)
        if count > 1:
            # Many at once are taken in a thread, where torch would bring threads of its own beside the backbone's.
            pixels = (
                torch.from_numpy(pixels.numpy().repeat(count, 0))
                if pixels.is_cpu
                else pixels.repeat_interleave(count, 0)
            )
            sides = sides.repeat(count, 0)
        taken = {"pixels": pixels}
        if self.augment is not None:
            taken |= self.augment.draw(seeds, sides[:, :2], sides[:, 2:], self.encoder.size)
        return {self.prefix + name: tensor for name, tensor in taken.items()}

    def _decoded(self, rows: Sequence[int]) -> list[tuple[npt.NDArray[np.uint8], tuple[int, int, int, int]]]:
        """Images `(height, width, 3)` as they are kept, each with its height and width and those of its file."""
        values = [self.values[row] for row in rows]
        return list((_pool(self.threads).map if self.threads and len(values) > 1 else map)(self._read, values))

    def _read(self, value: Any) -> tuple[npt.NDArray[np.uint8], tuple[int, int, int, int]]:
        image = self.encoder.decode(value)
        height, width = image.height, image.width
        if self.augment is None or not self._cuts:
            image = self.encoder.fit(image)
        else:
            most = self.augment.enlarged(self.encoder.size)
            smaller = (min(width, most[1]), min(height, most[0]))
            if image.size != smaller:
                image = image.resize(smaller, Image.Resampling.BICUBIC, reducing_gap=3.0)
        return np.asarray(image), (image.height, image.width, height, width)

    def _write(self, folder: Path, progress: Progress, description: str) -> None:
        sides = []
        with progress(description, total=len(self)) as advance, (folder / "pixels.bin").open("wb") as file:
            for start in range(0, len(self), _CHUNK):
                decoded = self._decoded(range(start, min(start + _CHUNK, len(self))))
                for image, each in decoded:
                    file.write(image.tobytes())
                    sides.append(each)
                advance(len(decoded))
        np.save(folder / "sides.npy", np.array(sides, dtype=np.int32))

    def _room(self) -> int:
        """Bytes that the images take, about; where parts are cut out, to judge by some that are decoded."""
        height, width = self.encoder.size
        if not self._cuts:
            return len(self) * height * width * 3
        rows = range(0, len(self), max(1, len(self) // _SAMPLE))
        return len(self) * sum(image.nbytes for image, _ in self._decoded(rows)) // len(rows)

    def _key(self) -> str:
        facts = self.encoder.facts
        if self.augment is not None and self._cuts:
            return self._digest("cuts", self.augment.enlarged(facts.size))[:32]
        return self._digest(
            "fitted", facts.size, facts.resize, facts.interpolation, facts.crop_offset, facts.whole_fit()
        )[:32]

    def _digest(self, *parts: Any) -> str:
        return hashlib.sha256(repr((FORMAT, *parts, self._content)).encode()).hexdigest()

    @cached_property
    def _content(self) -> str:
        """SHA-256 of the images themselves."""
        digest = hashlib.sha256(str(len(self)).encode())
        for row in range(len(self)):
            digest.update(_fingerprint(self.values[row]))
        return digest.hexdigest()


def contact_sheet(values: Sequence[Any], encoder: Any, augment: Augment, *, n: int = 5, seed: int = 0) -> Image.Image:
    """A grid with a row for each photo: as the model sees it in evaluation, and `n` of its changed copies."""
    height, width = encoder.size
    rows = range(len(values))
    plain, changing = Pictures(values, encoder), Pictures(values, encoder, augment)
    copies = changing.changed(changing.views(rows, n, seed)).view(len(values), n, 3, height, width)
    images = torch.cat([plain.changed(plain.views(rows, 1, seed))[:, None], copies], 1).permute(0, 1, 3, 4, 2).numpy()
    sheet = Image.new("RGB", ((n + 1) * (width + _GAP) - _GAP, len(values) * (height + _GAP) - _GAP), "white")
    for row, column in np.ndindex(len(values), n + 1):
        sheet.paste(Image.fromarray(images[row, column]), (column * (width + _GAP), row * (height + _GAP)))
    return sheet


def together(images: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
    """Images `(height, width, 3)` as one batch, each in the upper left corner of as much room as the largest take."""
    if len({image.shape for image in images}) == 1:
        return torch.from_numpy(np.stack(images))
    height, width = (max(image.shape[side] for image in images) for side in (0, 1))
    batch = np.zeros((len(images), height, width, 3), np.uint8)
    for room, image in zip(batch, images, strict=True):
        room[: image.shape[0], : image.shape[1]] = image
    return torch.from_numpy(batch)


def threads(workers: int | None) -> int:
    """How many threads decode: what the recipe's `workers` says, by default one for each core, up to `THREADS`."""
    return min(THREADS, available_cores()) if workers is None else workers


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="decode")


def _free(folder: Path) -> int:
    """Bytes that the disk has room for, with a tenth left to others."""
    folder.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(folder).free * 9 // 10


def _fingerprint(value: Any) -> bytes:
    """32 bytes that tell an image from others."""
    if isinstance(value, Mapping):
        value = value["path"] if value.get("bytes") is None else value["bytes"]
    if isinstance(value, (str, os.PathLike)):
        path = Path(value)
        facts = (str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else str(path)
        return hashlib.sha256(repr(facts).encode()).digest()
    if isinstance(value, bytes):
        return hashlib.sha256(value).digest()
    array = np.ascontiguousarray(value)
    return hashlib.sha256(repr((array.shape, array.dtype.str)).encode() + array.tobytes()).digest()
