"""Blocks of tokens on disk: one safetensors file, written and read without holding it in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge.artifacts import read_json

FILE = "blocks.safetensors"
STEP = 1 << 22  # tokens that are copied together

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Blocks:
    """The token blocks of each split, `(blocks, block) int32`, mapped from disk; `calibration` may have none.

    A block's first token is given and its others are predicted. `bytes_per_token` has, by split, the UTF-8 bytes of
    the text that a predicted token stands for, and `n_tokens` counts all tokens. `report` is what `data.json` tells.
    """

    train: Ids
    validation: Ids
    test: Ids
    calibration: Ids
    bytes_per_token: Mapping[str, float]
    n_tokens: Mapping[str, int]
    report: Mapping[str, Any]

    @property
    def block(self) -> int:
        """Tokens in a block."""
        return int(self.train.shape[1])


def open_blocks(folder: Path) -> Blocks:
    """The blocks that `pack` wrote to a folder; a change to an array stays in memory."""
    report = read_json(folder / "data.json")
    with (folder / FILE).open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    arrays: dict[str, Any] = {"calibration": np.empty((0, report["block"]), np.int32)}
    for name, facts in header.items():
        start = 8 + size + facts["data_offsets"][0]
        arrays[name] = np.memmap(folder / FILE, "<i4", "c", start, tuple(facts["shape"]))
    rates = {name: n / report["predicted"][name] for name, n in report["bytes"].items()}
    return Blocks(**arrays, bytes_per_token=rates, n_tokens=report["tokens"], report=report)


def write(blocks: Mapping[str, Ids], folder: Path) -> None:
    """Write arrays `(blocks, block) int32`, which may be mapped from disk themselves, to `blocks.safetensors`."""
    header: dict[str, Any] = {}
    at = 0
    for name, array in blocks.items():
        n_bytes = array.size * 4
        header[name] = {"dtype": "I32", "shape": list(array.shape), "data_offsets": [at, at + n_bytes]}
        at += n_bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = folder / FILE
    path.unlink(missing_ok=True)  # blocks that are open map the file: they keep it, and a new one is made
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in blocks.values():
            for part in _parts(array):
                file.write(np.ascontiguousarray(part, dtype="<i4").tobytes())


def _parts(array: Ids) -> Iterator[Ids]:
    step = max(1, STEP // max(1, array.shape[1]))
    return (array[start : start + step] for start in range(0, len(array), step))
