"""Arrays of equal length: of an `.npz` file, or `arrays:MODULE:FUNCTION`, from a function of an installed package."""

from __future__ import annotations

import importlib
import re
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tledge.errors import DataError, did_you_mean
from tledge.tables.source import Options, Row, Source

SUFFIXES = (".npz",)
PREFIX = "arrays:"

_PLACE = re.compile(r"arrays:(?P<module>\w+(?:\.\w+)*):(?P<function>\w+)")


_PARTS = {"train": ("_train",), "validation": ("_validation", "_valid", "_val"), "test": ("_test",)}
"""How the names of the arrays of a split end, where a file holds several as those of Keras do: `x_train`, `y_test`."""


def open_file(path: Path, options: Options) -> Source:
    """The rows of an `.npz` file, its arrays the columns; they are held in memory.

    Of `x_train`, `y_train`, `x_test` and `y_test` those of the split that is asked for are `x` and `y`.

    Raises:
        DataError: the file is damaged or holds Python objects, has no arrays of the split, or they differ in length.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            chosen = _of_part(stored.files, options.part, path)
            columns = {column: _flat(stored[name]) for column, name in chosen.items()}
            aside = [name for name in stored.files if name not in chosen.values()]
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        why = str(error).partition("\n")[0]
        raise DataError(f"{path.name} cannot be read as arrays: {why}; write it with numpy.savez") from error
    source = _source(path.name, columns, path)
    return replace(source, read_as=f"without {', '.join(aside)}") if aside else source


def _of_part(names: Sequence[str], part: str, path: Path) -> dict[str, str]:
    """The array of each column: all of them, or those of one split in a file that holds several."""
    parts = {
        split: {name.removesuffix(end): name for end in ends for name in names if name.lower().endswith(end)}
        for split, ends in _PARTS.items()
    }
    if not parts["train"] or not (parts["validation"] or parts["test"]):
        return {name: name for name in names}
    if not parts[part]:
        raise DataError(
            f"data.{part}: {path.name} has no arrays for it; its arrays are {', '.join(names)}; give another file, or "
            "a fraction of the training rows"
        )
    return parts[part]


def _flat(values: Any) -> Any:
    """A column of one number a row for what has the shape `(rows, 1)`."""
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def open_reference(reference: str, key: str, options: Options) -> Source:  # noqa: ARG001
    """The rows that a function gives: a mapping of arrays, or a tuple of them, whose columns are `0`, `1` and so on.

    Raises:
        DataError: there is no such function, it fails, or it gives something else.
    """
    place = _PLACE.fullmatch(reference)
    if place is None:
        raise DataError(f"{key}: {reference!r}: expected arrays:MODULE:FUNCTION, such as arrays:my_data.photos:load")
    try:
        module = importlib.import_module(place["module"])
    except ImportError as error:
        package = place["module"].partition(".")[0]
        raise DataError(
            f"{key}: {reference}: {error}; is the package {package!r} installed? try: pip install {package}"
        ) from error
    function = getattr(module, place["function"], None)
    if not callable(function):
        known = [name for name, value in vars(module).items() if callable(value)]
        raise DataError(
            f"{key}: {reference}: {place['module']} has no function {place['function']!r}"
            f"{did_you_mean(place['function'], known)}"
        )
    try:
        given = function()
    except Exception as error:  # whatever somebody else's function raises
        why = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise DataError(f"{key}: {reference}: the function failed: {why}") from error
    if isinstance(given, tuple | list):
        given = {str(i): column for i, column in enumerate(given)}
    if not isinstance(given, Mapping):
        raise DataError(f"{key}: {reference} gives {type(given).__name__}, expected a tuple or a mapping of arrays")
    return _source(reference.removeprefix(PREFIX), {str(name): column for name, column in given.items()})


def _source(name: str, columns: Mapping[str, Any], path: Path | None = None) -> Source:
    lengths = {column: _length(values) for column, values in columns.items()}
    if not lengths or None in lengths.values() or len(set(lengths.values())) > 1:
        got = ", ".join(f"{column!r}: {'no array' if n is None else n}" for column, n in lengths.items())
        raise DataError(f"{name}: expected arrays of one length, one for each column; got {got or 'none'}")
    size = next(iter(lengths.values())) or 0
    number = 0

    def read(wanted: Collection[str] | None) -> Iterator[Row]:
        nonlocal number
        chosen = [column for column in columns if wanted is None or column in wanted]
        for i in range(size):
            number = i + 1
            yield Row(f"{name.rpartition(':')[2]}:{number}", {column: _cell(columns[column][i]) for column in chosen})

    return Source(name, tuple(columns), read, size, lambda: number, path)


def _length(values: Any) -> int | None:
    try:
        return None if isinstance(values, str | bytes) else len(values)
    except TypeError:  # a single value
        return None


def _cell(value: Any) -> Any:
    """Scalars and short lists as Python's own; what has more dimensions stays an array."""
    if isinstance(value, np.ndarray) and value.ndim > 1:
        return value
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value
