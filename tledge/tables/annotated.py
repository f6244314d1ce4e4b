"""Folders and lists of pictures with boxes, found by what is there: a `data.yaml`, a file of COCO's, or VOC's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tledge.errors import DataError
from tledge.tables import json_document, pictures, voc, yolo
from tledge.tables.source import Options, Source

_COCO = "instances_"


def opener(path: Path, options: Options) -> Callable[[], Source] | None:
    """What opens the pictures with boxes of a folder, or of a list of them; `None` where a path is neither.

    Raises:
        DataError: the folder holds several such data sets, or is split already into files or folders of its own.
    """
    if path.is_file():
        is_list = path.suffix.lower() == ".txt" and voc.root_of(path) is not None
        return (lambda: voc.open_list(path)) if is_list else None
    if not path.is_dir():
        return None
    parts = parts_of(path)
    if len({*parts.values()}) > 1:
        raise pictures.split_already(path, {part: str(each) for part, each in parts.items()})
    files = _files(path)
    if len(files) > 1:
        listed = ", ".join(each.name for each in files[:10])
        raise DataError(f"{path} holds several files of boxes: {listed}; give one of them")
    if files:
        module = yolo if files[0].suffix in yolo.SUFFIXES else json_document
        return lambda: module.open_file(files[0], options)
    return (lambda: voc.open_folder(path)) if voc.fits(path) else None


def parts_of(path: Path) -> dict[str, Path]:
    """What names `train`, `validation` and `test` of a data set that is split already; else empty.

    It is one and the same `data.yaml` for all of them, files of COCO's, lists of VOC's, or folders of either kind.
    """
    if path.is_file():
        is_split = path.suffix in yolo.SUFFIXES and yolo.fits(path)
        parts = dict.fromkeys(yolo.parts_of(path), path) if is_split else {}
    elif not path.is_dir():
        parts = {}
    elif files := _files(path):
        named = {each.stem.removeprefix(_COCO).removesuffix("2017").lower(): each for each in files}
        parts = parts_of(files[0]) if len(files) == 1 else pictures.parts_of(named)
    else:
        parts = pictures.parts_of(voc.lists(path)) or _folders(path)
    return parts if len(parts) > 1 and "train" in parts else {}


def root_of(reference: str) -> Path | None:
    """The folder whose files decide the rows of a reference beside the file that it names, if it names one."""
    path = Path(reference)
    try:
        if path.suffix.lower() == ".txt" and path.is_file():
            return voc.root_of(path)
        if path.suffix.lower() in yolo.SUFFIXES and path.is_file():
            return path.parent
    except (OSError, ValueError):
        return None
    return None


def _files(folder: Path) -> list[Path]:
    """The files of a folder that tell the boxes of its pictures."""
    yamls = [each for each in sorted(folder.iterdir()) if each.suffix in yolo.SUFFIXES and yolo.fits(each)]
    return [*yamls, *_coco_files(folder)]


def _coco_files(folder: Path) -> list[Path]:
    """Files that are COCO's by their names."""
    places = [folder, *(folder / name for name in ("annotations", "Annotations") if (folder / name).is_dir())]
    names = {each.resolve(): each for place in places for each in sorted(place.glob("*.json"))}
    return [each for each in names.values() if "coco" in each.name.lower() or each.name.startswith(_COCO)]


def _folders(folder: Path) -> dict[str, Path]:
    """The folders of a split data set that have boxes."""
    folders = {each.name.lower(): each for each in sorted(folder.iterdir()) if each.is_dir()}
    return {part: each for part, each in pictures.parts_of(folders).items() if _coco_files(each) or voc.fits(each)}
