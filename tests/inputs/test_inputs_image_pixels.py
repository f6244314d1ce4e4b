"""The device's pixels against torchvision's transforms and transformers' image processors."""

import json

import numpy as np
import pytest
import transformers
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import v2

from tledge.inputs.image import INTERPOLATIONS, MAX_PIXELS, Facts, ImageInput, from_config, write_config

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHAPES = [(60, 84), (75, 50), (33, 33), (17, 301), (5, 9), (1, 40), (1, 1)]
RESIZED = [(32, 28), (31, 28), (33, 28), (24, 32), ((40, 30), 28), (None, 20)]


def photo(height, width, seed=0):
    """Smooth colours and sharp noise: what filters treat differently."""
    rng = np.random.default_rng([seed, height, width])
    smooth = np.asarray(Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((width, height)))
    return Image.fromarray(np.where(rng.random((height, width, 1)) < 0.3, 255 - smooth, smooth).astype(np.uint8))


def facts(size, resize, **changes):
    given = {"interpolation": "bilinear", "mean": MEAN, "std": STD, "crop_offset": "round"} | changes
    return Facts((size, size), resize, **given)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("resize", "size"), RESIZED)
def test_equals_torchvision(interpolation, resize, size):
    ours = ImageInput(facts(size, resize, interpolation=interpolation))
    mode = v1.InterpolationMode(interpolation)
    before = [] if resize is None else [v1.Resize(resize, interpolation=mode)]
    theirs = v1.Compose([*before, v1.CenterCrop(size), v1.ToTensor(), v1.Normalize(MEAN, STD)])
    for shape in SHAPES:
        image = photo(*shape)
        got = ours.encode([image])["pixel_values"]
        assert (got.shape, got.dtype) == ((1, 3, size, size), np.float32)
        np.testing.assert_allclose(got[0], theirs(image).numpy(), rtol=0, atol=1e-6, err_msg=str(shape))


def test_equals_torchvision_v2_and_its_published_presets():
    from torchvision.models import EfficientNet_B0_Weights, Inception_V3_Weights, MobileNet_V2_Weights

    for weights in (MobileNet_V2_Weights.IMAGENET1K_V2, EfficientNet_B0_Weights.DEFAULT, Inception_V3_Weights.DEFAULT):
        preset = weights.transforms()
        size, resize = preset.crop_size[0], preset.resize_size[0]
        ours = ImageInput(facts(size, resize, interpolation=preset.interpolation.value))
        for shape in [(300, 400), (401, 299)]:
            got = ours.encode([photo(*shape)])["pixel_values"][0]
            np.testing.assert_allclose(got, preset(photo(*shape)).numpy(), rtol=0, atol=1e-6)
    ours = ImageInput(facts(28, 31))
    theirs = v2.Compose([v2.Resize(31), v2.CenterCrop(28), v1.ToTensor(), v2.Normalize(MEAN, STD)])
    np.testing.assert_allclose(
        ours.encode([photo(60, 84)])["pixel_values"][0], theirs(photo(60, 84)).numpy(), rtol=0, atol=1e-6
    )


CLIP = {"size": {"shortest_edge": 31}, "crop_size": {"height": 28, "width": 28}}
PROCESSORS = [
    ("CLIP", CLIP),
    ("CLIP", {"size": {"shortest_edge": 20}, "crop_size": {"height": 29, "width": 30}, "resample": 2}),
    ("CLIP", CLIP | {"resample": 0, "do_normalize": False}),
    ("CLIP", CLIP | {"do_rescale": False, "image_mean": [120.0, 110, 100], "image_std": [60.0, 61, 62]}),
    ("ViT", {"size": {"height": 30, "width": 20}}),
    ("DeiT", {"size": {"height": 32, "width": 32}, "crop_size": {"height": 28, "width": 28}}),
    ("ConvNext", {"size": {"shortest_edge": 28}, "crop_pct": 0.875}),
    ("ConvNext", {"size": {"shortest_edge": 29}, "crop_pct": 0.9, "image_mean": list(MEAN), "image_std": list(STD)}),
    ("ConvNext", {"size": {"shortest_edge": 384}}),
    ("Bit", CLIP | {"size": {"shortest_edge": 28}}),
    ("MobileNetV1", CLIP),
    ("MobileNetV2", CLIP),
    ("EfficientNet", {"size": {"height": 28, "width": 28}, "resample": 0, "image_std": [0.4785, 0.4733, 0.4743]}),
    ("EfficientNet", {"size": {"height": 28, "width": 28}, "include_top": False}),
    ("Beit", {"size": {"height": 28, "width": 28}}),
    ("Pvt", {"size": {"height": 28, "width": 28}}),
    ("Siglip", {"size": {"height": 28, "width": 28}}),
]


@pytest.mark.parametrize(("name", "settings"), PROCESSORS)
def test_equals_transformers_pillow_processors(name, settings, tmp_path):
    processor = getattr(transformers, f"{name}ImageProcessorPil")(**settings)
    processor.save_pretrained(tmp_path)
    ours = ImageInput.load(tmp_path)
    for shape in SHAPES:
        image = photo(*shape)
        theirs = processor(image, return_tensors="np")["pixel_values"]
        got = ours.encode([image])["pixel_values"]
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, theirs, rtol=1e-6, atol=1e-6, err_msg=str(shape))


@pytest.mark.parametrize("name", sorted({name for name, _ in PROCESSORS}))
def test_keys_left_out_have_the_defaults_of_transformers(name):
    processor = getattr(transformers, f"{name}ImageProcessorPil")()
    saved = {key: value for key, value in processor.to_dict().items() if value is not None}
    assert from_config({"image_processor_type": f"{name}ImageProcessor"}) == from_config(saved)


OLD = [
    ("ConvNext", {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 28, "crop_pct": 0.875, "resample": 3}),
    ("ViT", {"feature_extractor_type": "ViTFeatureExtractor", "size": 28, "resample": 3}),
    ("DeiT", {"feature_extractor_type": "DeiTFeatureExtractor", "size": 32, "crop_size": 28, "do_center_crop": True}),
    ("CLIP", {"feature_extractor_type": "CLIPFeatureExtractor", "size": 31, "crop_size": 28, "do_center_crop": True}),
]


@pytest.mark.parametrize(("name", "config"), OLD)
def test_old_files_equal_transformers(name, config, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config | {"do_normalize": True, "do_resize": True}))
    processor = getattr(transformers, f"{name}ImageProcessorPil").from_pretrained(tmp_path)
    ours = ImageInput.load(tmp_path)
    for shape in [(60, 84), (75, 50)]:
        theirs = processor(photo(*shape), return_tensors="np")["pixel_values"]
        np.testing.assert_allclose(ours.encode([photo(*shape)])["pixel_values"], theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("resample", [1, 2, 3])
def test_torchvision_backed_processors_are_two_grey_levels_away(resample):
    """Their filters round on their own: measured were 2 of 255 levels at most, and one pixel in a hundred at all."""
    for settings in (CLIP, {"size": {"shortest_edge": 256}}):
        theirs = transformers.CLIPImageProcessor(**settings, resample=resample, do_normalize=False)
        assert theirs.backend == "torchvision"
        ours = ImageInput(from_config(theirs.to_dict()))
        for shape in [(60, 84), (75, 50), (17, 301)]:
            expected = theirs(photo(*shape), return_tensors="np")["pixel_values"]
            difference = np.abs(ours.encode([photo(*shape)])["pixel_values"] - expected) * 255
            assert difference.max() < 2.5
            assert (difference > 0.5).mean() < 0.02


def test_written_file_is_read_by_transformers(tmp_path):
    given = facts(28, 31, crop_offset="floor", interpolation="bicubic")
    write_config(tmp_path, given)
    assert ImageInput.load(tmp_path).facts == given
    theirs = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    expected = theirs(photo(60, 84), return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(ImageInput(given).encode([photo(60, 84)])["pixel_values"], expected, atol=1e-6)


def test_offsets_of_the_cut_differ_where_half_a_pixel_is_left():
    image = photo(31, 31)
    floor = ImageInput(facts(28, None, crop_offset="floor")).fit(image)
    rounded = ImageInput(facts(28, None)).fit(image)
    assert np.array_equal(np.asarray(floor), np.asarray(image)[1:29, 1:29])
    assert np.array_equal(np.asarray(rounded), np.asarray(image)[2:30, 2:30])


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (1, 20_000)])
@pytest.mark.parametrize("size", [224, 260])
def test_threads_of_an_image(shape, size):
    """Resized whole, they would have hundreds of millions of pixels."""
    image = photo(*shape)
    ours = ImageInput(facts(size, 256))
    assert 256 * 256 * max(shape) > MAX_PIXELS
    fitted = ours.fit(image)
    assert fitted.size == (size, size)
    middle = max(shape) // 2
    colours = np.asarray(image).reshape(-1, 3)[middle - 2 : middle + 2].astype(float)
    seen = np.asarray(fitted)[size // 2, size // 2].astype(float)
    assert (seen >= colours.min(0) - 1).all()
    assert (seen <= colours.max(0) + 1).all()


def test_part_of_a_resized_image_is_that_of_the_whole(monkeypatch):
    """The shortcut for threads gives what resizing everything gives."""
    ours = ImageInput(facts(28, 31))
    for shape in [(3, 90), (90, 3), (17, 301)]:
        whole = np.asarray(ours.fit(photo(*shape))).astype(int)
        with monkeypatch.context() as patch:
            patch.setattr("tledge.inputs.image.MAX_PIXELS", 100)
            part = np.asarray(ours.fit(photo(*shape))).astype(int)
        assert np.abs(whole - part).max() <= 1
