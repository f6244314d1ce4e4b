"""What `tledge predict` does with boxes beside printing them: draw them into pictures, and write a file of COCO's."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tledge.cli.values import Value
from tledge.errors import InputError, StorageError

if TYPE_CHECKING:
    from tledge.runtime import Predictor

QUALITY = 92  # of a JPEG file


@dataclass
class Boxes:
    """The boxes of pictures, on their way to a folder of drawings and to a file of COCO's.

    `ids` are the numbers of pictures by their paths, where a file of COCO's has told them, and `bundle` is the bundle's
    folder, which may have those of the labels.
    """

    predictor: Predictor
    bundle: Path
    coco: Path | None = None
    draw: Path | None = None
    file: Path | None = None
    _images: list[dict[str, Any]] = field(default_factory=list)
    _annotations: list[dict[str, Any]] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.coco is not None and self.coco.suffix != ".json":
            raise InputError(f"--coco {self.coco}: expected a file that ends in .json")
        if self.draw is not None and self.draw.exists() and not self.draw.is_dir():
            raise InputError(f"--draw {self.draw}: expected a folder, which is made where there is none")
        if self.coco is not None and self.file is not None and self.coco.resolve() == self.file.resolve():
            raise InputError(f"--coco {self.coco}: that is the file that is read; name another one")
        self._categories = label_ids(self.bundle, self.predictor.labels)
        self._ids = image_ids(self.file)

    def take(self, each: Value, answer: dict[str, Any]) -> None:
        """Keep an answer for the file, and draw it."""
        if self.draw is not None:
            self._draw(each, answer)
        if self.coco is not None:
            self._keep(each, answer)

    def end(self) -> None:
        """Write the file."""
        if self.coco is None:
            return
        found = {
            "images": self._images,
            "categories": [{"id": number, "name": label} for label, number in self._categories.items()],
            "annotations": self._annotations,
        }
        try:
            self.coco.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
        except OSError as error:
            raise StorageError(f"--coco {self.coco} cannot be written: {error.strerror or error}") from error

    def _draw(self, each: Value, answer: dict[str, Any]) -> None:
        from tledge.inputs._drawing import Drawn, colour_of, draw
        from tledge.inputs.image import decode

        places = {label: number for number, label in enumerate(self.predictor.labels)}
        boxes = [
            Drawn(_corners(box), f"{box['label']} {box['score']:.2f}", colour_of(places[box["label"]]))
            for box in reversed(answer["boxes"])
        ]
        assert self.draw is not None
        picture = Path(each.shown["image"])
        if picture.parent.resolve() == self.draw.resolve():
            raise StorageError(
                f"--draw {self.draw}: {picture.name} is there, and would be drawn over; name another folder"
            )
        path = self.draw / f"{self._name(picture.stem)}.jpg"
        try:
            self.draw.mkdir(parents=True, exist_ok=True)
            draw(decode(each.value), boxes).save(path, quality=QUALITY)
        except OSError as error:
            raise StorageError(f"--draw {path} cannot be written: {error.strerror or error}") from error

    def _name(self, stem: str) -> str:
        """A name for a drawing that no other one has."""
        numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
        name = next(f"{stem}{number}" for number in numbers if f"{stem}{number}" not in self._names)
        self._names.add(name)
        return name

    def _keep(self, each: Value, answer: dict[str, Any]) -> None:
        from tledge.inputs._image_decode import shape_of

        height, width, _ = shape_of(each.value)
        number = self._ids.get(str(each.value), len(self._images) + 1)
        self._images.append({"id": number, "file_name": each.shown["image"], "width": width, "height": height})
        for box in answer["boxes"]:
            left, top, right, bottom = _corners(box)
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": number,
                    "category_id": self._categories[box["label"]],
                    "bbox": [left, top, right - left, bottom - top],
                    "area": (right - left) * (bottom - top),
                    "iscrowd": 0,
                    "score": box["score"],
                }
            )


def _corners(box: dict[str, Any]) -> tuple[float, float, float, float]:
    return box["xmin"], box["ymin"], box["xmax"], box["ymax"]


def image_ids(file: Path | None) -> dict[str, int]:
    """The numbers of pictures by their paths, where a file of COCO's tells them."""
    from tledge.tables import coco, json_document
    from tledge.tables.source import Options

    if file is None or file.suffix != ".json":
        return {}
    found, _ = json_document.parsed(file, Options())
    return coco.image_ids(file, found) if coco.fits(found) else {}


def label_ids(bundle: Path, labels: tuple[str, ...]) -> dict[str, int]:
    """The numbers that the training data had for labels, as `config.json` keeps them; else they are counted from 1."""
    try:
        config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
        known = config["tledge"]["detector"]["label_ids"]
        return {label: int(known[label]) for label in labels}
    except (OSError, ValueError, KeyError, TypeError):
        return {label: number for number, label in enumerate(labels, start=1)}
