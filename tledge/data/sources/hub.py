"""Data sets of the Hugging Face hub: `hub:OWNER/NAME[/CONFIG][@SPLIT]`, no code of theirs is run."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import datasets

from tledge.errors import DataError
from tledge.tables.source import Options, Row, Source

PREFIX = "hub:"

_PLACE = re.compile(r"hub:(?P<id>[\w.-]+/[\w.-]+)(?:/(?P<config>[^/@\s]+))?(?:@(?P<split>[^@\s]+))?")


def open_reference(reference: str, key: str, options: Options) -> Source:  # noqa: ARG001
    """The rows of one split of a data set, `train` unless said otherwise; class numbers become class names.

    Images stay as they are stored: a mapping of `bytes` and `path`.

    Raises:
        DataError: the reference is malformed, or the data set cannot be loaded from here.
    """
    place = _PLACE.fullmatch(reference)
    if place is None:
        raise DataError(f"{key}: {reference!r}: expected hub:OWNER/NAME, hub:OWNER/NAME/CONFIG, with @SPLIT if wanted")
    try:
        loaded = datasets.load_dataset(place["id"], place["config"], split=place["split"] or "train")
    except Exception as error:  # whatever the hub's client and the network raise
        first = str(error).strip().partition("\n")[0][:200]
        raise DataError(
            f"{key}: cannot load {reference!r} from the hub: {first or type(error).__name__}; check the name and the "
            "network (and HF_HUB_OFFLINE), or give a local file"
        ) from error
    for column, feature in loaded.features.items():
        if isinstance(feature, datasets.Image):
            loaded = loaded.cast_column(column, datasets.Image(decode=False))
    number = 0

    def read(wanted: Collection[str] | None) -> Iterator[Row]:
        nonlocal number
        chosen = loaded if wanted is None else loaded.select_columns(list(wanted))
        for cells in chosen:
            number += 1
            yield Row(f"{reference}:{number}", {c: _named(cell, chosen.features[c]) for c, cell in cells.items()})

    return Source(reference, tuple(loaded.column_names), read, len(loaded), lambda: number)


def _has_names(feature: Any) -> bool:
    """Whether a feature holds class numbers, by themselves or within lists and objects."""
    inner = feature.values() if isinstance(feature, Mapping) else filter(None, [getattr(feature, "feature", None)])
    return isinstance(feature, datasets.ClassLabel) or any(map(_has_names, inner))


def _named(cell: Any, feature: Any) -> Any:
    """A cell with the names of its class numbers; nothing for one below 0, which stands for one that is held back."""
    if cell is None or not _has_names(feature):
        return cell
    if isinstance(feature, datasets.ClassLabel):
        return feature.names[cell] if cell >= 0 else None
    if isinstance(feature, Mapping):
        return {key: _named(item, feature[key]) for key, item in cell.items()}
    return [_named(item, feature.feature) for item in cell]
