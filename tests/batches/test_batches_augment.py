import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as V

from tledge.batches.augment import Augment
from tledge.batches.randaugment import OPERATIONS, operate
from tledge.recipe.schema import Augmentation

SIZE = (96, 128)
FILE = (300, 420)
EVERYTHING = {"flip": "both", "rotation_degrees": 30.0, "min_scale": 0.5, "color": 0.4, "randaugment": 2}
SINGLE = [{key: value} for key, value in EVERYTHING.items()]
BILINEAR = V.InterpolationMode.BILINEAR


def photo(height=FILE[0], width=FILE[1], seed=0):
    patches = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)


def shown(augment, images, seeds, originals=FILE, size=SIZE):
    """Changed images `(batch, height, width, 3)`, and how they were changed."""
    batch = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    kept = np.tile(batch.shape[1:3], (len(batch), 1))
    drawn = augment.draw(seeds, kept, np.tile(originals, (len(batch), 1)), size)
    return augment(batch, drawn, size).permute(0, 2, 3, 1).numpy().astype(int), drawn


def kept(augment):
    height, width = augment.enlarged(SIZE) if augment.cuts else SIZE
    return photo().resize((width, height), Image.Resampling.BICUBIC)


def changed(settings, count=8, seed=3):
    augment = Augment(Augmentation(**settings))
    return shown(augment, [kept(augment)] * count, [(seed, row) for row in range(count)])


@pytest.mark.parametrize("settings", [*SINGLE, EVERYTHING], ids="-".join)
def test_changes_images_to_the_models_size(settings):
    images, _ = changed(settings)
    assert images.shape == (8, *SIZE, 3)
    plain = np.asarray(photo().resize(SIZE[::-1])).astype(int)
    assert any((np.abs(image - plain) > 4).mean() > 0.2 for image in images)
    assert len({image.tobytes() for image in images}) > 1


@pytest.mark.parametrize("settings", [*SINGLE, EVERYTHING], ids="-".join)
def test_the_seed_of_an_image_decides_and_nothing_else(settings):
    augment = Augment(Augmentation(**settings))
    images = [kept(augment), kept(augment).rotate(180), kept(augment)]
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    together, _ = shown(augment, images, [(1, 5), (1, 6), (1, 7)])
    assert torch.equal(torch.rand(4), expected)
    alone, _ = shown(augment, images[1:2], [(1, 6)])
    np.testing.assert_allclose(alone[0], together[1], atol=1)
    other, _ = shown(augment, images, [(2, 5), (2, 6), (2, 7)])
    assert not np.array_equal(other, together)


def boxes(drawn, row, sides):
    """Top, left, height and width of a cut in pixels of the file."""
    (left, right), (top, bottom) = (drawn["box"][row].double().numpy() / np.array(sides[::-1])[:, None]).tolist()
    left, right, top, bottom = (round(at) for at in (left * FILE[1], right * FILE[1], top * FILE[0], bottom * FILE[0]))
    return top, left, bottom - top, right - left


@pytest.mark.parametrize("min_scale", [0.8, 0.5, 0.08])
def test_cuts_look_as_pillow_makes_them(min_scale):
    augment = Augment(Augmentation(min_scale=min_scale))
    images, drawn = changed({"min_scale": min_scale})
    for row, image in enumerate(images):
        box = boxes(drawn, row, augment.enlarged(SIZE))
        expected = np.asarray(V.resized_crop(photo(), *box, list(SIZE), BILINEAR, antialias=True)).astype(int)
        assert np.abs(image - expected).mean() < 1
        assert np.abs(image - expected)[4:-4, 4:-4].max() < 16


def test_turned_images_look_as_pillow_makes_them():
    images, drawn = changed({"rotation_degrees": 40})
    angles = np.degrees(np.arctan2(-drawn["matrix"][:, 0, 1], drawn["matrix"][:, 0, 0]).numpy())
    assert np.ptp(angles) > 20
    for image, angle in zip(images, angles, strict=True):
        expected = np.asarray(
            V.rotate(photo().resize(SIZE[::-1], Image.Resampling.BICUBIC), float(angle), BILINEAR)
        ).astype(int)
        white = np.asarray(V.rotate(Image.new("RGB", SIZE[::-1], "white"), float(angle), BILINEAR)).min(-1)
        inside, outside = (np.all([np.roll(white == value, shift, 0) for shift in (-3, 0, 3)], 0) for value in (255, 0))
        assert np.abs(image - expected)[inside].mean() < 1
        assert (image[outside] == 0).all()


def test_colours_look_as_pillow_makes_them():
    images, drawn = changed({"color": 0.5})
    assert 0.5 <= drawn["colors"].min() < 0.75
    assert 1.25 < drawn["colors"].max() <= 1.5
    for image, (brightness, contrast, saturation) in zip(images, drawn["colors"].tolist(), strict=True):
        expected = V.adjust_brightness(photo().resize(SIZE[::-1], Image.Resampling.BICUBIC), brightness)
        expected = V.adjust_saturation(V.adjust_contrast(expected, contrast), saturation)
        assert np.abs(image - np.asarray(expected)).mean() < 2  # Pillow rounds down three times


def test_all_changes_are_done_in_the_order_of_torchvisions():
    settings = {"flip": "both", "rotation_degrees": 25, "min_scale": 0.5, "color": 0.3}
    augment = Augment(Augmentation(**settings))
    images, drawn = changed(settings, count=24)
    assert len({tuple(flips) for flips in drawn["flips"].tolist()}) == 4
    for row, image in enumerate(images):
        across, down = drawn["flips"][row].tolist()
        expected = V.resized_crop(photo(), *boxes(drawn, row, augment.enlarged(SIZE)), list(SIZE), BILINEAR)
        expected = V.horizontal_flip(expected) if across else expected
        expected = V.vertical_flip(expected) if down else expected
        uniform = np.random.SeedSequence((3, row)).generate_state(28) / 2**32
        expected = V.rotate(expected, 25 * (2 * uniform[2] - 1), BILINEAR)
        brightness, contrast, saturation = drawn["colors"][row].tolist()
        # What is black beside the image counts for the mean that contrast keeps.
        expected = V.adjust_saturation(
            V.adjust_contrast(V.adjust_brightness(expected, brightness), contrast), saturation
        )
        assert np.abs(image - np.asarray(expected))[24:-24, 32:-32].mean() < 3


def test_images_that_are_only_mirrored_keep_every_pixel():
    plain = np.asarray(photo(*SIZE)).astype(int)
    ways = {"horizontal": plain[:, ::-1], "vertical": plain[::-1], "both": plain[::-1, ::-1]}
    for flip, expected in ways.items():
        images, _ = shown(Augment(Augmentation(flip=flip)), [photo(*SIZE)] * 24, [(0, row) for row in range(24)])
        found = {image.tobytes() for image in images}
        assert {plain.tobytes(), expected.tobytes()} <= found
        assert len(found) == (4 if flip == "both" else 2)


def test_cuts_are_as_large_as_was_asked_for_and_of_every_shape():
    augment = Augment(Augmentation(min_scale=0.5))
    sides = np.tile([1000, 1500], (300, 1))
    drawn = augment.draw([(0, row) for row in range(300)], sides, sides, SIZE)
    width, height = np.diff(drawn["box"].numpy())[..., 0].T
    shares, ratios = width * height / 1.5e6, width / height
    assert 0.49 < shares.min() < 0.55
    assert 0.85 < shares.max() <= 0.89  # no taller than the file, nor wider than 4 : 3
    assert 0.74 < ratios.min() < 0.8
    assert 1.25 < ratios.max() < 1.34
    starts = drawn["box"][:, :, 0].numpy() / np.maximum([1500, 1000] - np.stack([width, height], -1), 1)
    assert starts.min() >= 0
    assert starts.max() <= 1.01
    assert 0.4 < starts.mean() < 0.6


def test_a_cut_that_cannot_lie_inside_is_the_largest_in_the_middle():
    augment = Augment(Augmentation(min_scale=0.99))
    sides = np.array([[10, 1000], [1000, 10]])
    box = augment.draw([(0, 0), (0, 1)], sides, sides, SIZE)["box"].numpy()
    np.testing.assert_allclose(box[0], [[493, 506], [0, 10]])
    np.testing.assert_allclose(box[1], [[0, 10], [493, 506]])


def test_what_lies_beyond_an_image_is_not_seen():
    augment = Augment(Augmentation(min_scale=0.6))
    image = np.full((1, 40, 40, 3), 200, np.uint8)
    room = np.zeros((1, 64, 80, 3), np.uint8)
    room[:, :40, :40] = image
    sides = np.array([[40, 40]])
    for seed in range(6):
        drawn = augment.draw([(seed,)], sides, sides, SIZE)
        assert (augment(torch.from_numpy(room), drawn, SIZE) == 200).all()


def test_the_same_seeds_show_the_same_in_every_size():
    augment = Augment(Augmentation(**{**EVERYTHING, "randaugment": 0}))
    seeds = [(4, row) for row in range(6)]
    large = (2 * SIZE[0], 2 * SIZE[1])
    images, _ = shown(augment, [photo()] * 6, seeds)
    larger, _ = shown(augment, [photo()] * 6, seeds, size=large)
    shrunk = larger.reshape(6, SIZE[0], 2, SIZE[1], 2, 3).mean((2, 4))
    assert np.abs(images - shrunk).mean() < 2


def test_smaller_cuts_need_more_to_be_kept_but_no_more_than_twice_the_size():
    sizes = [Augment(Augmentation(min_scale=scale)).enlarged(SIZE) for scale in (0.95, 0.6, 0.08)]
    assert sizes == [(114, 152), (144, 191), (192, 256)]
    assert not Augment(Augmentation(flip="both")).cuts


def test_operations_of_randaugment_are_torchvisions():
    from torchvision.transforms import v2

    theirs = v2.RandAugment(magnitude=11)
    names = list(theirs._AUGMENTATION_SPACE)
    assert names[:2] == ["Identity", "ShearX"]
    images = torch.from_numpy(np.stack([np.asarray(photo(*SIZE, seed=row)) for row in range(2)])).permute(0, 3, 1, 2)
    assert len(OPERATIONS) == len(names)
    for number, name in enumerate(names):
        magnitudes, signed = theirs._AUGMENTATION_SPACE[name]
        strengths = magnitudes(31, *SIZE)
        strength = 0.0 if strengths is None else float(strengths[11])
        for sign in (-1, 1) if signed else (1,):
            chosen = torch.tensor([[[number, sign]], [[0, 1]]])
            expected = theirs._apply_image_or_video_transform(
                images, name, sign * strength, interpolation=BILINEAR, fill={}
            ) if name != "Identity" else images  # fmt: skip
            found = operate(images, chosen, 11)
            assert (found[0].int() - expected[0].int()).abs().max() <= 1, name
            assert torch.equal(found[1], images[1])


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [*SINGLE, EVERYTHING], ids="-".join)
def test_a_gpu_gives_what_a_cpu_gives(settings):
    augment = Augment(Augmentation(**settings))
    images = torch.from_numpy(np.stack([np.asarray(kept(augment))] * 8))
    sides = np.tile(images.shape[1:3], (8, 1))
    drawn = augment.draw([(9, row) for row in range(8)], sides, np.tile(FILE, (8, 1)), SIZE)
    here = augment(images, drawn, SIZE).int()
    there = augment(images.cuda(), {name: each.cuda() for name, each in drawn.items()}, SIZE).cpu().int()
    apart = (here - there).abs()
    assert apart.float().mean() < 0.05
    assert (apart > 1).float().mean() < 1e-3
