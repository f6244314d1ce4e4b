"""`preprocessor_config.json`: what is understood, what is refused by name, and the rest of an input's interface."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from tledge import inputs
from tledge.errors import BundleError, InputError
from tledge.inputs.image import Facts, ImageInput, from_config, read_config, write_config

FACTS = Facts((24, 20), 28, "bicubic", (0.4, 0.5, 0.6), (0.2, 0.3, 0.25), crop_offset="round")
CONFIG = FACTS.to_config()


@pytest.mark.parametrize(
    "facts",
    [
        FACTS,
        dataclasses.replace(FACTS, resize=(24, 20), crop_offset="floor"),
        dataclasses.replace(FACTS, resize=(30, 30), in_graph="normalize"),
        dataclasses.replace(FACTS, resize=None, interpolation="bilinear", in_graph="resize_and_normalize"),
        dataclasses.replace(FACTS, resize=20, rescale_factor=1.0, size=(20, 20), interpolation="nearest"),
    ],
)
def test_facts_survive_the_file(facts, tmp_path):
    write_config(tmp_path, facts)
    assert read_config(tmp_path) == facts
    assert isinstance(inputs.load("image", tmp_path), ImageInput)
    assert inputs.load("image", tmp_path).identity == ImageInput(facts).identity


def test_identity_follows_what_decides_the_pixels():
    identity = ImageInput(FACTS).identity
    assert ImageInput(from_config(CONFIG | {"processor_class": "X", "do_convert_rgb": False})).identity == identity
    for change in ({"resize": 29}, {"crop_offset": "floor"}, {"std": (0.2, 0.3, 0.26)}, {"in_graph": "normalize"}):
        assert ImageInput(dataclasses.replace(FACTS, **change)).identity != identity


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_processor_type": "LayoutLMv3ImageProcessor"}, "'LayoutLMv3ImageProcessor' is not known"),
        ({"image_processor_type": "ConvNextsImageProcessor"}, "did you mean 'ConvNextImageProcessor'"),
        ({"do_pad": True}, "do_pad needs do_resize, no do_center_crop, a size with max_height and max_width"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"do_reduce_labels": True}, "do_reduce_labels"),
        ({"rescale_offset": True}, "rescale_offset"),
        ({"include_top": True}, "include_top"),  # EfficientNet's alone
        ({"crop_pct": 0.9}, "crop_pct"),  # ConvNeXT's alone
        ({"data_format": "channels_last"}, "data_format"),
        ({"max_image_size": 980}, "max_image_size"),
        ({"size": {"shortest_edge": 28, "longest_edge": 40}}, "size must have shortest_edge, or height and width"),
        ({"size": {"longest_edge": 40}}, "size must have"),
        ({"size": {"shortest_edge": 0}}, "size must be in whole pixels, 1 to 4096, got 0"),
        ({"size": {"shortest_edge": "28"}}, "whole pixels"),
        ({"size": [28, 28]}, "size must have"),
        ({"crop_size": {"height": 24}}, "crop_size must have height and width"),
        ({"crop_size": True}, "crop_size"),
        ({"do_center_crop": False}, "images come out in different sizes"),
        ({"do_resize": False, "do_center_crop": False}, "images come out in different sizes"),
        ({"resample": 9}, "resample must be 0 to 5, got 9"),
        ({"resample": "bilinear"}, "resample"),
        ({"image_mean": [0.5, 0.5]}, "image_mean must be one number or three"),
        ({"image_mean": ["a", "b", "c"]}, "image_mean must be a number"),
        ({"image_std": [0.5, 0.5, 0.0]}, "image_std and rescale_factor must be above 0"),
        ({"image_std": float("nan")}, "NaN is no number in JSON"),
        ({"rescale_factor": "1/255"}, "rescale_factor must be a number"),
        ({"crop_offset": "ceil"}, "crop_offset must be floor or round, got 'ceil'"),
        ({"in_graph": "resize"}, "in_graph must be none or normalize or resize_and_normalize"),
    ],
)
def test_what_is_not_known_is_refused_by_name(changes, message, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CONFIG | changes))
    with pytest.raises(BundleError, match=message) as caught:
        ImageInput.load(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["size", "resample", "image_mean", "image_std"])
def test_nothing_is_assumed_where_no_processor_is_named(name):
    plain = {key: value for key, value in CONFIG.items() if key not in ("image_processor_type", name)}
    with pytest.raises(BundleError, match=f"has no '{name}'"):
        from_config(plain)
    assert from_config(plain | {name: CONFIG[name]}) == FACTS


@pytest.mark.parametrize(
    ("content", "message"), [(None, "is missing"), ("{", "cannot be read as JSON"), ("[]", "expected a JSON object")]
)
def test_damaged_file(content, message, tmp_path):
    if content is not None:
        (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(BundleError, match=message):
        inputs.load("image", tmp_path)


def test_convnext_may_not_cut_twice():
    config = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "do_center_crop": True}
    with pytest.raises(BundleError, match="crop_pct cuts to"):
        from_config(config | {"crop_size": 192})
    assert from_config(config | {"crop_size": 224}).size == (224, 224)


def test_interface():
    ours = ImageInput(FACTS)
    assert (ours.max_length, ours.input_names, ours.batches) == (None, ("pixel_values",), True)
    assert (ours.size, ours.mean, ours.std) == ((24, 20), FACTS.mean, FACTS.std)
    assert ours.encode([])["pixel_values"].shape == (0, 3, 24, 20)
    with pytest.raises(InputError, match="no length"):
        ours.dummy(1, 8)


def test_normalise_takes_arrays_and_images_alike():
    ours = ImageInput(FACTS)
    fitted = ours.fit(Image.fromarray(ours.examples()[0]))
    one = ours.normalise([fitted, np.asarray(fitted)])["pixel_values"]
    np.testing.assert_array_equal(one[0], one[1])
    expected = (np.asarray(fitted).astype(np.float64) / 255 - FACTS.mean) / FACTS.std
    np.testing.assert_allclose(one[0], expected.transpose(2, 0, 1), atol=1e-6)


@pytest.mark.parametrize("in_graph", ["none", "normalize", "resize_and_normalize"])
def test_dummy_looks_like_photos(in_graph):
    ours = ImageInput(dataclasses.replace(FACTS, in_graph=in_graph))
    pixels = ours.dummy(3)["pixel_values"]
    shape = {"none": (3, 3, 24, 20), "normalize": (3, 24, 20, 3), "resize_and_normalize": (3, 36, 30, 3)}[in_graph]
    assert (pixels.shape, pixels.dtype) == (shape, np.float32 if in_graph == "none" else np.uint8)
    np.testing.assert_array_equal(pixels, ours.dummy(3)["pixel_values"])
    assert (pixels != ours.dummy(3, seed=1)["pixel_values"]).any()
    assert len({image.tobytes() for image in pixels}) == 3
    assert pixels.std() > (0.5 if in_graph == "none" else 30)


def test_examples_are_the_same_for_every_model():
    first, second = ImageInput(FACTS).examples()
    assert (first.shape, second.shape) == ((60, 84, 3), (75, 50, 3))
    assert first.dtype == np.uint8
    again = ImageInput(dataclasses.replace(FACTS, size=(8, 8))).examples()
    np.testing.assert_array_equal(first, again[0])


def test_graph_that_normalises_gets_bytes():
    values = ImageInput(FACTS).examples()
    ours = ImageInput(dataclasses.replace(FACTS, in_graph="normalize"))
    pixels = ours.encode(values)["pixel_values"]
    assert (pixels.shape, pixels.dtype) == ((2, 24, 20, 3), np.uint8)
    np.testing.assert_array_equal(pixels[1], np.asarray(ours.fit(ours.decode(values[1]))))
    plain = ImageInput(FACTS)
    np.testing.assert_array_equal(plain.normalise(list(pixels))["pixel_values"], plain.encode(values)["pixel_values"])


def test_graph_that_resizes_gets_images_of_their_own_size():
    first, second = ImageInput(FACTS).examples()
    ours = ImageInput(dataclasses.replace(FACTS, in_graph="resize_and_normalize"))
    assert not ours.batches
    np.testing.assert_array_equal(ours.encode([first, first])["pixel_values"], np.stack([first, first]))
    with pytest.raises(InputError, match=r"differ in size \(50 x 75 and 84 x 60 pixels\): pass them one at a time"):
        ours.encode([first, second])


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 7), (300, 2, 4)])
def test_tiny_images(shape):
    value = np.full(shape, 90, np.uint8)
    pixels = ImageInput(FACTS).encode([value])["pixel_values"]
    assert pixels.shape == (1, 3, 24, 20)
    expected = (90 / 255 - np.array(FACTS.mean)) / FACTS.std
    np.testing.assert_allclose(pixels, np.broadcast_to(expected[:, None, None], pixels.shape[1:])[None], atol=1e-6)
