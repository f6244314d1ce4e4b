"""Boxes land on the object in the original image, whatever the image is and however it fills the input."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torchvision.ops import batched_nms, box_iou

from tledge.errors import BundleError
from tledge.inputs._fit import FITS, Fit
from tledge.inputs._suppression import Suppression, suppress
from tledge.inputs.boxed_image import BoxedImageInput
from tledge.inputs.image import Facts, write_config

PLAIN = {"interpolation": "bilinear", "mean": (0.0,) * 3, "std": (1.0,) * 3}
SIZE = (96, 128)
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What stored pixels are of the upright image, by the EXIF tag that turns them back."""


def facts_of(fit, size=SIZE, **changes):
    return Facts(size, size, **PLAIN, border="none" if fit == "stretch" else fit, **changes)


def finder(tensors):
    """A detector that tells the bright thing of each image, and pads."""
    bright = tensors["pixel_values"].mean(1) > 0.75
    boxes, scores = np.zeros((len(bright), 3, 4), np.float32), np.zeros((len(bright), 3), np.float32)
    labels = np.full((len(bright), 3), -1)
    for row, image in enumerate(bright):
        ys, xs = np.nonzero(image)
        boxes[row, 0] = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
        scores[row, 0], labels[row, 0] = 0.9, 2
    return {"boxes": boxes, "scores": scores, "labels": labels}


def drawn(height, width):
    """A dark image with a bright rectangle, and the box of that."""
    box = (width // 5, height // 3, max(width // 5 + 1, width * 3 // 4), max(height // 3 + 1, height * 9 // 10))
    image = Image.new("L", (width, height), 10)
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=250)
    return image, box


def lands(value, box, shape, fit, size=SIZE):
    found, _ = BoxedImageInput(facts_of(fit, size)).answers(finder, [value])
    place = Fit(fit, size).place(*shape)
    pixel = np.asarray((shape[1] / place.width, shape[0] / place.height) * 2)
    off = np.abs(found["boxes"][0, 0] - box)
    assert (off <= np.maximum(pixel, 1)).all(), (value, shape, fit, found["boxes"][0, 0], box)
    assert found["labels"].tolist() == [[2, -1, -1]]
    assert not found["boxes"][0, 1:].any()


@pytest.mark.parametrize("fit", FITS)
def test_boxes_land_on_the_object_whatever_the_size(fit):
    for shape in [(90, 160), (160, 90), (128, 128), (480, 640), (37, 211), (50, 50), (700, 30), (96, 128)]:
        image, box = drawn(*shape)
        lands(image, box, shape, fit)
        lands(image, box, shape, fit, size=(64, 64))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_boxes_land_on_the_object_whatever_the_mode(fit, mode):
    image, box = drawn(200, 150)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    lands(image if mode == "I;16" else image.convert(mode), box, (200, 150), fit)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_boxes_land_on_the_object_of_a_turned_file(fit, orientation):
    image, box = drawn(120, 200)
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    image.transpose(ORIENTATIONS[orientation]).save(file, "PNG", exif=exif)
    lands(file.getvalue(), box, (120, 200), fit)


@pytest.mark.parametrize("fit", FITS)
def test_an_image_of_one_pixel_and_images_of_several_sizes_at_once(fit):
    sizes = [(1, 1), (1, 300), (77, 40)]
    images = [np.full((*size, 3), 255, np.uint8) for size in sizes]
    found, tensors = BoxedImageInput(facts_of(fit)).answers(finder, images)
    assert tensors["pixel_values"].shape == (3, 3, *SIZE)
    for row, (height, width) in enumerate(sizes):
        np.testing.assert_allclose(found["boxes"][row, 0], (0, 0, width, height), atol=1e-4)
    none, _ = BoxedImageInput(facts_of(fit)).answers(finder, [])
    assert none["boxes"].shape == (0, 3, 4)


@pytest.mark.parametrize("fit", FITS)
def test_to_image_undoes_to_input_and_clips(fit):
    rng = np.random.default_rng(0)
    for height, width in [(90, 160), (301, 17), (1, 1), (2000, 1500)]:
        way = Fit(fit, SIZE)
        low = rng.random((20, 2)) * (width, height)
        boxes = np.concatenate([low, low + rng.random((20, 2)) * ((width, height) - low)], axis=1)
        back = way.to_image(way.to_input(boxes, height, width), height, width)
        np.testing.assert_allclose(back, boxes, atol=1e-3)
        outside = np.asarray([[-5, -5, SIZE[1] + 9, SIZE[0] + 9]])
        np.testing.assert_allclose(way.to_image(outside, height, width), [[0, 0, width, height]], atol=1e-3)
        assert way.to_input(np.zeros((0, 4)), height, width).shape == (0, 4)


def test_borders_are_grey_and_where_they_belong():
    wide = Image.new("RGB", (200, 100), (255, 0, 0))
    for fit, rows in (("letterbox", slice(16, 80)), ("pad", slice(0, 64))):
        pixels = np.asarray(BoxedImageInput(facts_of(fit)).fit(wide))
        red = (pixels == (255, 0, 0)).all(-1)
        assert red[rows].all() and red.sum() == 64 * 128
        assert (pixels[~red] == 114).all()


@pytest.mark.parametrize("fit", FITS)
def test_files_tell_what_was_written(tmp_path, fit):
    facts = facts_of(fit, fill=7 if fit != "stretch" else 114)
    write_config(tmp_path, facts)
    suppression = {"score_threshold": 0.1, "iou_threshold": None, "max_detections": 30, "per_image": 50}
    config = {"tledge": {"detector": {"suppression": suppression, "score_threshold": 0.4}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = BoxedImageInput.load(tmp_path)
    assert (found.facts, found.score_threshold) == (facts, 0.4)
    assert found.suppression == Suppression(0.1, None, 30, 50)
    assert found.answers(finder, [drawn(50, 50)[0]])[0]["score_threshold"] == np.float32(0.4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "expected tledge.detector.suppression, found none"),
        ({"tledge": {"detector": {"suppression": {"iou_threshold": 3}}}}, "iou_threshold must be 0 to 1, got 3"),
        ({"tledge": {"detector": {"suppression": {"max_detections": 0}}}}, "max_detections must be 1 to 100000, got 0"),
        ({"tledge": {"detector": {"suppression": {"per_image": "all"}}}}, "per_image must be a whole number"),
        ({"tledge": {"detector": {"suppression": {}, "score_threshold": "x"}}}, "score_threshold must be 0 to 1"),
        ({"tledge": {"detector": 3}}, "cannot be read"),
    ],
)
def test_bad_files_are_told(tmp_path, config, message):
    write_config(tmp_path, facts_of("stretch"))
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match=message):
        BoxedImageInput.load(tmp_path)


def test_a_crop_is_refused(tmp_path):
    write_config(tmp_path, Facts((64, 64), 80, **PLAIN))
    with pytest.raises(BundleError, match="a detector must see all of it"):
        BoxedImageInput.load(tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_suppression_is_that_of_torchvision(seed):
    rng = np.random.default_rng(seed)
    low = rng.random((2, 300, 2)) * 80
    boxes = np.concatenate([low, low + 5 + rng.random((2, 300, 2)) * 40], axis=2).astype(np.float32)
    scores = rng.random((2, 3, 300)).astype(np.float32) ** 3
    settings = Suppression(score_threshold=0.2, iou_threshold=0.5, max_detections=60, per_image=250)
    found = suppress(boxes, scores, settings)
    for row in range(2):
        flat = torch.from_numpy(scores[row].reshape(-1))
        best = flat.sort(descending=True, stable=True).indices[: settings.per_image]
        best = best[flat[best] > settings.score_threshold]
        candidates = torch.from_numpy(boxes[row])[best % 300]
        kept = batched_nms(candidates, flat[best], best // 300, settings.iou_threshold)[: settings.max_detections]
        n = len(kept)
        np.testing.assert_array_equal(found["boxes"][row, :n], candidates[kept])
        np.testing.assert_array_equal(found["labels"][row, :n], best[kept] // 300)
        np.testing.assert_array_equal(found["scores"][row, :n], flat[best[kept]])
        assert (found["labels"][row, n:] == -1).all() and not found["scores"][row, n:].any()


def test_suppression_of_nothing_and_of_boxes_without_area():
    settings = Suppression(max_detections=5)
    nothing = suppress(np.zeros((1, 7, 4), np.float32), np.zeros((1, 2, 7), np.float32), settings)
    assert (nothing["labels"] == -1).all()
    points = suppress(np.zeros((1, 3, 4), np.float32), np.full((1, 1, 3), 0.5, np.float32), settings)
    assert points["labels"].tolist() == [[0, 0, 0, -1, -1]]
    alone = Suppression(iou_threshold=None, max_detections=5)
    same = np.tile(np.asarray([0, 0, 9, 9], np.float32), (1, 3, 1))
    assert suppress(same, np.full((1, 1, 3), 0.5, np.float32), alone)["labels"].tolist() == [[0, 0, 0, -1, -1]]
    assert suppress(same, np.full((1, 1, 3), 0.5, np.float32), settings)["labels"].tolist() == [[0, -1, -1, -1, -1]]


def test_golden_outputs_hardly_change_where_boxes_change_places():
    encoder = BoxedImageInput(facts_of("stretch"))
    boxes = torch.tensor([[[10.0, 10, 60, 50], [70, 20, 120, 90], [0, 0, 0, 0]]])
    one = {"boxes": boxes.numpy(), "scores": np.asarray([[0.5, 0.4999, 0]], np.float32), "labels": [[3, 1, -1]]}
    other = {name: np.asarray(each)[:, [1, 0, 2]] for name, each in one.items()}
    other["boxes"] = other["boxes"] + np.float32(0.01)
    first, second = (encoder.golden(lambda _, each=each: each)({})["found"] for each in map(as_arrays, (one, other)))
    assert first.shape == (1, 3, 8, 8)
    assert np.abs(first - second).max() < 1e-3
    np.testing.assert_allclose(first[0, 0].sum(), 0.45 + 0.4499, atol=1e-5)
    assert float(box_iou(boxes[0, :1], boxes[0, 1:2])) == 0


def as_arrays(outputs):
    return {name: np.asarray(each) for name, each in outputs.items()}
