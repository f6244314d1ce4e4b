"""Preprocessing, one implementation for training, calibration, parity, benchmarks and the device.

One file a kind of input, found by its name; each module names its class `Input`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from tledge import plugins
from tledge.errors import BundleError, did_you_mean


class Input(Protocol):
    """What turns raw values into input tensors."""

    max_length: int
    identity: str
    input_names: tuple[str, ...]

    def encode(self, values: Sequence[Any]) -> dict[str, npt.NDArray[np.int64]]: ...
    def check(self, value: object) -> None: ...
    def dummy(self, batch: int, sequence: int, seed: int = 0) -> dict[str, npt.NDArray[np.int64]]: ...


def load(name: str, folder: Path) -> Input:
    """The preprocessing of that kind (`text`), as the files of a checkpoint or bundle describe it.

    Raises:
        BundleError: there is no such kind, or the folder's files are missing or damaged.
    """
    known = plugins.names(__name__)
    if name not in known:
        raise BundleError(
            f"{folder} takes inputs of the kind {name!r}: this tledge knows {', '.join(known)}"
            f"{did_you_mean(name, known)}"
        )
    return cast("Input", plugins.load(__name__, name).Input.load(folder))
