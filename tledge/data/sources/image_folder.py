"""A folder of images with one subfolder for each label; what is in deeper folders belongs to the first one."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from tledge.errors import DataError
from tledge.inputs.image import suffixes
from tledge.tables.source import Options, Row, Source, broken

COLUMNS = ("image", "label")

LAYOUT = "one subfolder for each label, such as FOLDER/cat/001.jpg (or a CSV file with paths and labels)"

_LITTER = ("thumbs.db", "desktop.ini", "__macosx", "icon\r")  # that file managers and packers leave, in lower case
_PARTS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
_USUAL = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_NOTHING_THERE = ("not an image", "empty class folder")


def open_folder(path: Path, reference: str, key: str, options: Options, *, links_lead_out: bool = False) -> Source:
    """The images of a folder, sorted by name; a row is named like `cat/001.jpg`.

    Args:
        path: the folder.
        reference: how it was named, for messages.
        key: the recipe's key, for messages.
        options: `label_names` may join class folders.
        links_lead_out: whether files may be symbolic links to somewhere else.

    Raises:
        DataError: no image is there, no class folder, two that differ only in case, or the folder is split already.
    """
    boxes = _boxes(path)
    if boxes is not None:
        raise DataError(
            f"{key}: {path} looks like data for detection: {boxes} describes boxes in pictures, which are named by "
            f"their data.yaml (YOLO), their file (COCO), or their folder with Annotations (VOC); else expected {LAYOUT}"
        )
    parts = split_folders(path)
    if parts is not None:
        raise DataError(_split_already(parts, reference, key))
    tree = _Tree(path, links_lead_out)
    _check_names(tree, key, options.label_names)
    size = images = 0
    for row in tree.rows():
        size += 1
        images += row.problem is None or row.problem.kind not in _NOTHING_THERE
    if not images:
        inside = ", ".join(sorted(os.listdir(path))[:8])  # noqa: PTH208
        raise DataError(
            f"{key}: there is no image in {path}; looked in its subfolders for names ending in {', '.join(_USUAL)} and "
            f"{len(suffixes() - {*_USUAL})} more; expected {LAYOUT}; the folder holds {_printable(inside) or 'nothing'}"
        )
    done = 0

    def read(wanted: Collection[str] | None) -> Iterator[Row]:  # noqa: ARG001
        nonlocal done
        for row in tree.rows():
            done += 1
            yield row

    return Source(path.name, COLUMNS, read, size, lambda: done, path)


def split_folders(path: Path) -> dict[str, Path] | None:
    """The folders `train`, `validation` and `test` of a folder that is split already, as far as there are; else None.

    They are known by their names (`val` and `valid` too), and by the class folders in them.
    """
    try:
        folders = [entry for entry in _listed(path) if entry.is_dir()]
        parts = {
            part: Path(entry.path) for part, names in _PARTS.items() for entry in folders if entry.name.lower() in names
        }
        is_split = "train" in parts and len(parts) > 1
        if not is_split or (len(folders) > len(parts) and not all(_has_folders(part) for part in parts.values())):
            return None
    except OSError:
        return None
    return parts


def _boxes(path: Path) -> str | None:
    """What tells that a folder is of pictures with boxes (YOLO, VOC, COCO), in it or one folder below; else `None`."""
    try:
        folders = [entry for entry in _listed(path) if entry.is_dir()]
        for place in (path, *(Path(entry.path) for entry in folders)):
            entries = _listed(place)
            names = {entry.name.lower(): entry for entry in entries}
            images = any(_is_image(name) for name in names)
            stems = {Path(name).stem for name in names if _is_image(name)}
            for name, entry in names.items():
                is_beside = "images" in names or "jpegimages" in names or images
                is_yolo = name == "labels" and is_beside and entry.is_dir() and _ends(entry, (".txt",))
                is_voc = name == "annotations" and is_beside and entry.is_dir() and _ends(entry, (".xml", ".json"))
                is_coco = name.endswith(".json") and ("coco" in name or name.startswith("instances_"))
                is_xml = name.endswith(".xml") and Path(name).stem in stems
                if is_yolo or is_voc or is_coco or is_xml:
                    return f"{_printable(Path(entry.path).relative_to(path).as_posix())}"
    except OSError:
        return None
    return None


def _ends(folder: os.DirEntry[str], suffixes_: tuple[str, ...]) -> bool:
    """Whether a folder, or one in it, holds files of such names and no image."""
    names = [
        each.name.lower()
        for entry in _listed(folder.path)
        for each in (_listed(entry.path) if entry.is_dir() else [entry])
    ]
    return any(name.endswith(suffixes_) for name in names) and not any(map(_is_image, names))


class _Tree:
    """A folder that can be walked again and again, in the same order."""

    def __init__(self, path: Path, links_lead_out: bool) -> None:
        self.top = path.absolute()
        self._real, self._links_lead_out = os.path.realpath(path), links_lead_out

    def class_folders(self) -> list[str]:
        """Their names."""
        return [entry.name for entry in _listed(self.top) if entry.is_dir()]

    def rows(self) -> Iterator[Row]:
        """Each image and each thing that is none."""
        for entry in _listed(self.top):
            if entry.is_dir() or entry.is_symlink():
                empty = True
                for row in self._entry(entry, entry.name, (self._real,)):
                    empty = False
                    yield row
                if empty:
                    detail = "the class folder holds no image; add some, or remove the folder"
                    yield broken(_printable(entry.name), "empty class folder", detail)
            elif _is_image(entry.name):
                yield broken(_printable(entry.name), "no class folder", "an image outside of any class folder")

    def _entry(self, entry: os.DirEntry[str], label: str, above: tuple[str, ...]) -> Iterator[Row]:
        """The image that an entry is, or all in the folder that it is; `above` are the real folders it is in."""
        name = Path(entry.path).relative_to(self.top).as_posix()
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
            real = os.path.realpath(entry.path, strict=True) if is_folder or not is_file or entry.is_symlink() else ""
        except OSError as error:
            yield broken(_printable(name), "broken link", f"cannot be followed: {error.strerror or error}")
            return
        if name != _printable(name):
            yield broken(_printable(name), "undecodable name", "its name is not valid text; rename it")
        elif real and not Path(real).is_relative_to(self._real) and not (self._links_lead_out and is_file):
            detail = "is a link that leads out of the folder; put a copy in its place"
            yield broken(name, "link out of the folder", detail)
        elif is_folder and real in above:
            yield broken(name, "link in a circle", "is a link to a folder that it is in; remove it")
        elif is_folder:
            yield from self._folder(entry.path, name, label, (*above, real))
        elif not _is_image(name):
            detail = f"is not an image: no known format ends in {Path(name).suffix!r}; take the file out of the folder"
            yield broken(name, "not an image", detail)
        elif not is_file:
            yield broken(name, "no regular file", "is no regular file, expected an image")
        else:
            yield Row(name, {"image": Path(entry.path), "label": label})

    def _folder(self, path: str, name: str, label: str, above: tuple[str, ...]) -> Iterator[Row]:
        try:
            entries = _listed(path)
        except OSError as error:
            yield broken(name, "unreadable folder", f"the folder cannot be read: {error.strerror or error}")
            return
        for entry in entries:
            yield from self._entry(entry, label, above)


def _check_names(tree: _Tree, key: str, label_names: Mapping[str, str]) -> None:
    folders = tree.class_folders()
    if not folders and any(_is_image(entry.name) for entry in _listed(tree.top)):
        raise DataError(f"{key}: {tree.top} holds images but no class folders; expected {LAYOUT}")
    by_plain: dict[str, str] = {}
    for folder in folders:
        label = label_names.get(folder, folder)
        plain = unicodedata.normalize("NFC", label).casefold().strip()
        other = by_plain.setdefault(plain, folder)
        if label_names.get(other, other) != label:
            one, two = _printable(other), _printable(folder)
            raise DataError(
                f"{key}: the class folders {one!r} and {two!r} differ only in case; rename one, or give both one name "
                f"with data.label_names: {{{two}: {one}}}"
            )


def _split_already(parts: Mapping[str, Path], reference: str, key: str) -> str:
    there = [f"data.{part}: {reference.rstrip('/')}/{folder.name}" for part, folder in parts.items()]
    absent = [f"data.{part} to a fraction of the training rows" for part in _PARTS if part not in parts]
    return f"{key}: {reference} is split already; set {', '.join([*there, *absent])}"


def _listed(path: str | Path) -> list[os.DirEntry[str]]:
    """What a folder holds, sorted by name, without hidden files and litter."""
    with os.scandir(path) as entries:
        kept = [each for each in entries if not each.name.startswith(".") and each.name.lower() not in _LITTER]
    return sorted(kept, key=lambda entry: entry.name)


def _has_folders(path: Path) -> bool:
    return any(entry.is_dir() for entry in _listed(path))


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in suffixes()


def _printable(name: str) -> str:
    """A file's name, where bytes that are no text and control characters are escaped."""
    text = name.encode(errors="backslashreplace").decode()
    return text if text.isprintable() else text.encode("unicode_escape").decode()
