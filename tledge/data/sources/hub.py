"""Data sets of the Hugging Face hub: `hub:OWNER/NAME[/CONFIG][@SPLIT]`, no code of theirs is run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import datasets

from tledge.data.sources.source import Row, Source
from tledge.errors import DataError

PREFIX = "hub:"


def open_hub(reference: str, key: str) -> Source:
    """The rows of one split of a data set, `train` unless said otherwise; class numbers become class names.

    Raises:
        DataError: the reference is malformed, or the data set cannot be loaded from here.
    """
    place, _, split = reference.removeprefix(PREFIX).partition("@")
    parts = place.split("/")
    if len(parts) not in (1, 2, 3) or not all(parts):
        raise DataError(f"{key}: {reference!r}: expected hub:OWNER/NAME, hub:OWNER/NAME/CONFIG, with @SPLIT if wanted")
    try:
        loaded = datasets.load_dataset("/".join(parts[:2]), *parts[2:], split=split or "train")
    except Exception as error:  # whatever the hub's client and the network raise
        first = str(error).strip().partition("\n")[0][:200]
        raise DataError(
            f"{key}: cannot load {reference!r} from the hub: {first or type(error).__name__}; check the name and the "
            "network, or give a local file"
        ) from error
    return Source(reference, tuple(loaded.column_names), _rows(loaded, reference), len(loaded))


def _rows(loaded: Any, name: str) -> Iterator[Row]:
    classes = {column: f for column, f in loaded.features.items() if isinstance(f, datasets.ClassLabel)}
    for number, cells in enumerate(loaded, start=1):
        named = {
            column: classes[column].int2str(value) if column in classes and value is not None and value >= 0 else value
            for column, value in cells.items()
        }
        yield Row(f"{name}:{number}", named)
