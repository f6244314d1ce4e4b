"""Data sets of torchvision: `torchvision:NAME[@SPLIT]`, such as `torchvision:CIFAR10@test`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tledge.cache import cache_folder, open_cache
from tledge.errors import DataError, did_you_mean
from tledge.tables.source import Options, Row, Source, broken

PREFIX = "torchvision:"

COLUMNS = ("image", "label")

_PLACE = re.compile(r"torchvision:(?P<name>\w+)(?:@(?P<split>[^@\s]+))?")


def open_reference(reference: str, key: str, options: Options) -> Source:
    """The rows of one split of a data set, `train` unless said otherwise or the data set has other ones.

    It is looked for in the folder `torchvision` of tledge's cache folder, and put there by `options.download`. Classes
    have the names that torchvision knows.

    Raises:
        DataError: there is no such data set or split, it is not there, or it is none for classification.
    """
    place = _PLACE.fullmatch(reference)
    if place is None:
        raise DataError(f"{key}: {reference!r}: expected torchvision:NAME, such as torchvision:CIFAR10, or with @SPLIT")
    made = _made(place["name"], place["split"], reference, key, options.download)
    _check_classification(made, reference, key)
    classes = getattr(made, "classes", None)
    name, number = reference.removeprefix(PREFIX), 0

    def read(wanted: Collection[str] | None) -> Iterator[Row]:  # noqa: ARG001
        nonlocal number
        for number in range(1, len(made) + 1):
            yield _row(f"{name}:{number}", made, number - 1, classes)

    return Source(name, COLUMNS, read, len(made), lambda: number)


def _row(name: str, made: Any, index: int, classes: Sequence[Any] | None) -> Row:
    try:
        image, target = made[index]
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for a damaged file
        return broken(name, "broken image", f"cannot be read: {_first_line(error)}")
    return Row(name, {"image": image, "label": _class_name(int(target), classes)})


def _class_name(target: int, classes: Sequence[Any] | None) -> str:
    if classes is None or not 0 <= target < len(classes):
        return str(target)
    named = classes[target]
    return named if isinstance(named, str) else ", ".join(map(str, named))


def _made(name: str, split: str | None, reference: str, key: str, download: bool) -> Any:
    """The data set, opened."""
    from torchvision import datasets

    known = [each for each in datasets.__all__ if inspect.isclass(getattr(datasets, each))]
    if name not in known:
        raise DataError(
            f"{key}: torchvision has no data set {name!r}{did_you_mean(name, known)}; its documentation lists them"
        )
    of = getattr(datasets, name)
    takes = _parameters(of)
    root = open_cache("torchvision") if download else cache_folder() / "torchvision"
    keys: dict[str, Any] = {"root": root, "download": download, "loader": Path} | _split(takes, split, reference, key)
    try:
        return of(**{parameter: value for parameter, value in keys.items() if parameter in takes})
    except Exception as error:  # whatever the network, the disk and the data set raise
        why = _first_line(error)
        if isinstance(error, ValueError | TypeError | ImportError):
            raise DataError(f"{key}: {reference} cannot be opened: {why}") from error
        if not download and "download" in takes:
            raise DataError(
                f"{key}: {reference} is not in {root}; set data.download: true to download it, or put its files there"
            ) from error
        verb = "downloaded" if "download" in takes else "read, and torchvision does not download it"
        raise DataError(f"{key}: {reference} cannot be {verb}: {why}; it belongs in {root}") from error


def _parameters(of: type) -> Mapping[str, inspect.Parameter]:
    """What a class takes; a class that passes keywords on takes those of its bases too."""
    found: dict[str, inspect.Parameter] = {}
    for each in of.__mro__:
        if "__init__" in vars(each):
            own = inspect.signature(vars(each)["__init__"]).parameters
            found = {name: one for name, one in own.items() if one.kind is not one.VAR_KEYWORD} | found
            if all(one.kind is not one.VAR_KEYWORD for one in own.values()):
                break
    return found


def _split(takes: Mapping[str, Any], split: str | None, reference: str, key: str) -> dict[str, Any]:
    """The arguments that choose the split."""
    if split is None:
        return {"train": True}
    if "train" in takes and split in ("train", "test"):
        return {"train": split == "train"}
    if "split" in takes:
        return {"split": split}
    has = "the splits train and test" if "train" in takes else "no splits"
    raise DataError(f"{key}: {reference}: the data set has {has}; {split!r} is none of them")


def _check_classification(made: Any, reference: str, key: str) -> None:
    """Its targets must be class numbers."""
    try:
        first = made[0]
        is_class = len(first) == 2 and int(first[1]) == first[1]
    except (OSError, SyntaxError):
        return  # a damaged file: said when it is read
    except (TypeError, ValueError, IndexError, RuntimeError):
        is_class = False
    if not is_class:
        raise DataError(
            f"{key}: {reference} is no data set for classification: a row should be an image and its class's number"
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
