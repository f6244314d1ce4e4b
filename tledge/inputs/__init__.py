"""Preprocessing, one implementation for training, calibration, parity, benchmarks and the device.

One file a kind of input, found by its name; each module names its class `Input`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy.typing as npt

from tledge import plugins
from tledge.errors import BundleError, did_you_mean
from tledge.inputs._one_pass import Array, Run


class Input(Protocol):
    """What turns raw values into input tensors.

    `max_length` is the length at which values are cut, `None` where they have no length; `batches` says whether any
    values may be encoded together, `decodes` whether they are read from image files, and `pads_left` on which side
    shorter ones are padded. `examples` are a few raw values that are nobody's data, the same for ever, and `for_export`
    two rows of tensors for an exporter to trace with. `expected` says what a cell of a table must hold, `holds` whether
    one does, and `of_cells` makes a value of those of a row; relative paths start from `folder`. `is_one` tells one
    value from several of them, and `unknown_share` how many of the values' tokens the vocabulary does not know, `None`
    where there is none, and `unknown_characters` which characters these stand for. `passes` are the tensors of each
    pass that some values take, with what `whole` needs to know to make outputs with a row for each value of those of
    all passes; `answers` runs a model over them. `golden` makes a run give what golden vectors keep of its outputs.
    """

    decodes: bool
    pads_left: bool
    expected: str

    @property
    def max_length(self) -> int | None: ...
    @property
    def identity(self) -> str: ...
    @property
    def input_names(self) -> tuple[str, ...]: ...
    @property
    def batches(self) -> bool: ...

    def encode(self, values: Sequence[Any]) -> dict[str, npt.NDArray[Any]]: ...
    def passes(self, values: Sequence[Any]) -> tuple[list[dict[str, Array]], Any]: ...
    def whole(self, outputs: Sequence[Mapping[str, Array]], known: Any) -> dict[str, Array]: ...
    def golden(self, run: Run) -> Run: ...
    def answers(self, run: Run, values: Sequence[Any]) -> tuple[dict[str, Array], dict[str, Array]]: ...
    def check(self, value: object) -> None: ...
    def dummy(self, batch: int, sequence: int | None = None, seed: int = 0) -> dict[str, npt.NDArray[Any]]: ...
    def for_export(self) -> dict[str, npt.NDArray[Any]]: ...
    def examples(self) -> Sequence[Any]: ...
    def of_cells(self, cells: Sequence[str], folder: Path) -> Any: ...
    def holds(self, cell: object) -> bool: ...
    def is_one(self, values: object) -> bool: ...
    def unknown_share(self, values: Sequence[Any]) -> float | None: ...
    def unknown_characters(self, values: Sequence[Any]) -> Counter[str]: ...


def files(name: str | None = None) -> tuple[str, ...]:
    """The files that describe the preprocessing of a kind of input, by default of every kind."""
    kinds = plugins.names(__name__) if name is None else [name]
    found = [file for kind in kinds for file in plugins.load(__name__, kind).Input.files]
    return tuple(dict.fromkeys(found))


def load(name: str, folder: Path) -> Input:
    """The preprocessing of that kind (`text`, `image`, ...), as the files of a checkpoint or bundle describe it.

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
