"""Images in which objects are found: whole images to pixel tensors, and boxes back to the images' own pixels.

`preprocessor_config.json` says how images fill the model's input (`tledge.inputs._fit`), and under `tledge.detector`
`config.json` which boxes are told: `suppression` has the settings of `tledge.inputs._suppression`, and
`score_threshold` is the score from which on a detection is an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tledge.artifacts import from_dict, read_object
from tledge.errors import BundleError
from tledge.inputs._fit import Boxes
from tledge.inputs._image_facts import FILE, Facts, read_config
from tledge.inputs._one_pass import Array, Run
from tledge.inputs._suppression import Suppression, suppress
from tledge.inputs.image import ImageInput

CONFIG = "config.json"
UNTIL_PICKED = 0.5
"""The score from which on a detection is an answer where the files do not say."""
CELLS = 8
"""Parts of an input's height and width that golden vectors tell apart."""


class BoxedImageInput(ImageInput):
    """The image preprocessing of a detector's checkpoint or bundle; else as `ImageInput`.

    A model gives boxes in pixels of its input, as `Suppression` chose them or before that; `whole` makes detections in
    pixels of the upright image. `way` is how images and boxes come into the input, `suppression` what is told, and
    `score_threshold` the score from which on a detection is an answer.
    """

    def __init__(
        self, facts: Facts, suppression: Suppression | None = None, score_threshold: float = UNTIL_PICKED
    ) -> None:
        super().__init__(facts)
        way = facts.whole_fit()
        assert way is not None, "the preprocessing cuts off a part of the image"
        self.way = way
        self.suppression = suppression or Suppression()
        self.score_threshold = score_threshold

    @classmethod
    def load(cls, folder: Path) -> BoxedImageInput:
        """As for `ImageInput`, and what `config.json` says of detections.

        Raises:
            BundleError: a file is missing or damaged, or the preprocessing cuts off a part of the image.
        """
        facts = read_config(folder)
        if facts.whole_fit() is None:
            raise BundleError(
                f"{folder / FILE}: the image is cut to its middle, but a detector must see all of it; expected a size "
                "with height and width and no do_center_crop, or do_pad"
            )
        return cls(facts, *_detector(folder / CONFIG))

    def passes(self, values: Sequence[Any]) -> tuple[list[dict[str, Array]], Any]:
        """The tensors of the one pass that images take, and their heights and widths, `(images, 2) int64`.

        Raises:
            InputError: a value is no image that can be read, or the images differ in size and the graph resizes.
        """
        images = [self.decode(value) for value in values]
        sizes = np.asarray([(image.height, image.width) for image in images], np.int64).reshape(-1, 2)
        fitted = images if not self.batches else [self.fit(image) for image in images]
        return [self.normalise(fitted)], sizes

    def whole(self, outputs: Sequence[Mapping[str, Array]], known: Any) -> dict[str, Array]:
        """Detections in pixels of the upright images, best first, clipped to them.

        Args:
            outputs: of one pass: `boxes`, `scores` and `labels` as `suppress` gives them, or what it takes, all in
                pixels of the input.
            known: heights and widths, `(images, 2)`.

        Returns:
            `boxes (images, max_detections, 4) float32`, `scores (images, max_detections) float32` and `labels (images,
            max_detections) int64`, with 0, 0 and -1 behind the last; and `score_threshold (images,) float32`.
        """
        found = self.told(outputs[0])
        boxes = [self._of_image(each, size) for each, size in zip(found["boxes"], known.tolist(), strict=True)]
        there = (found["labels"] >= 0)[..., None]
        shape = found["boxes"].shape
        return found | {
            "boxes": np.where(there, np.asarray(boxes, np.float32).reshape(shape), np.float32(0)),
            "score_threshold": np.full(len(known), self.score_threshold, np.float32),
        }

    def golden(self, run: Run) -> Run:
        """A run that gives how much was found where, which changes little where rounding changes the boxes' order.

        `found`, `(batch, 3, 8, 8) float32`: what detections' scores are above the threshold of suppression, spread over
        their boxes, in each part of the input; the same with a weight for each label; and 1, since scores are
        probabilities, by which tolerances are measured.
        """

        def kept(tensors: Mapping[str, Array]) -> dict[str, Array]:
            found = self.told(run(tensors))
            sure = np.where(found["labels"] >= 0, found["scores"] - np.float32(self.suppression.score_threshold), 0)
            by_label = (found["labels"] % 7 + 1) / 7
            parts = _shares(found["boxes"], self.size)
            sums = [np.einsum("bk,bkyx->byx", weights, parts) for weights in (sure, sure * by_label)]
            return {"found": np.stack([*sums, np.ones_like(sums[0])], axis=1).astype(np.float32)}

        return kept

    def examples(self) -> list[npt.NDArray[np.uint8]]:
        """Pictures for golden vectors: many things in a wide one, one in a tall one, and a square one without."""
        rng = np.random.default_rng(20)
        return [_things(rng, 90, 160, 15, 8), _things(rng, 160, 90, 1, 1), ImageInput.examples(self)[0][:60, :60]]

    def told(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Detections in pixels of the input, suppressed here where the graph has not."""
        names = ("boxes", "scores", "labels")
        if "labels" in outputs:
            return {name: outputs[name] for name in names}
        return suppress(outputs["boxes"], outputs["scores"], self.suppression)

    def _of_image(self, boxes: Boxes, size: Sequence[int]) -> Boxes:
        return self.way.to_image(boxes, *size)


Input = BoxedImageInput


def _detector(path: Path) -> tuple[Suppression, float]:
    """What a configuration says of detections.

    Raises:
        BundleError: it is missing or damaged, or says nothing of that.
    """
    try:
        config, _ = read_object(path)
        facts = config["tledge"]["detector"]
        suppression = from_dict(Suppression, facts["suppression"])
        threshold = facts.get("score_threshold", UNTIL_PICKED)
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing: expected the configuration of a detector") from error
    except (KeyError, AttributeError) as error:
        raise BundleError(f"{path}: expected tledge.detector.suppression, found none; is this a detector?") from error
    except (OSError, TypeError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    _require(suppression, threshold, path)
    return suppression, float(threshold)


def _require(settings: Suppression, threshold: object, path: Path) -> None:
    shares = {"suppression.score_threshold": settings.score_threshold, "score_threshold": threshold}
    if settings.iou_threshold is not None:
        shares["suppression.iou_threshold"] = settings.iou_threshold
    for name, value in shares.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
            raise BundleError(f"{path}: tledge.detector.{name} must be 0 to 1, got {value!r:.60}")
    for name in ("max_detections", "per_image"):
        if not 1 <= getattr(settings, name) <= _MOST:
            raise BundleError(
                f"{path}: tledge.detector.suppression.{name} must be 1 to {_MOST}, got {getattr(settings, name)}"
            )


_MOST = 100_000
"""Detections of an image at most."""


def _shares(boxes: Array, size: tuple[int, int]) -> Array:
    """Which share of each box is in each part of an input, `(batch, boxes, CELLS, CELLS)`; nothing of an empty box."""
    by_axis = []
    for axis, side in ((1, size[0]), (0, size[1])):
        edges = np.linspace(0, side, CELLS + 1)
        low, high = boxes[..., axis, None], boxes[..., axis + 2, None]
        inside = np.clip(np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1]), 0, None)
        by_axis.append(inside / np.maximum(high - low, 1e-6))
    return np.asarray(by_axis[0][..., :, None] * by_axis[1][..., None, :])


def _things(rng: np.random.Generator, height: int, width: int, across: int, down: int) -> npt.NDArray[np.uint8]:
    """Discs and rectangles of all colours in rows, on a plain ground."""
    image = Image.new("RGB", (width, height), (208, 205, 196))
    draw = ImageDraw.Draw(image)
    step = np.asarray((width / across, height / down))
    for i in range(across * down):
        corner = np.asarray((i % across, i // across)) * step
        box = np.concatenate([corner + 0.15 * step, corner + 0.8 * step]).round().astype(int).tolist()
        (draw.ellipse if i % 2 == 0 else draw.rectangle)(box, fill=tuple(rng.integers(0, 256, 3).tolist()))
    return np.asarray(image)
