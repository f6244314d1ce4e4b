import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from tledge.inputs.image import Facts, ImageInput
from tledge.recipe.schema import Augmentation
from tledge.train import Augment, contact_sheet

ENCODER = ImageInput(Facts((24, 32), 24, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
EVERYTHING = {"flip": "both", "rotation_degrees": 30.0, "min_scale": 0.5, "color": 0.4, "randaugment": 2}
SINGLE = [{key: value} for key, value in EVERYTHING.items()]


def photo(height=40, width=48, seed=0):
    patches = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((width, height))


def pixels(image):
    return np.asarray(image).astype(int)


def augment(**settings):
    return Augment(Augmentation(**settings), ENCODER)


@pytest.mark.parametrize("settings", [*SINGLE, EVERYTHING], ids="-".join)
def test_changes_an_image_and_gives_the_models_size(settings):
    change, plain = augment(**settings), pixels(ENCODER.fit(photo()))
    changed = [change(photo(), seed) for seed in range(8)]
    assert {(image.mode, image.size) for image in changed} == {("RGB", (32, 24))}
    assert any((pixels(image) != plain).mean() > 0.2 for image in changed)
    assert len({image.tobytes() for image in changed}) > 1


@pytest.mark.parametrize("settings", [*SINGLE, EVERYTHING], ids="-".join)
def test_a_seed_gives_the_same_image_and_leaves_the_random_state_alone(settings):
    change = augment(**settings)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first, second = change(photo(), 11), augment(**settings)(photo(), 11)
    assert torch.equal(torch.rand(4), expected)
    assert first.tobytes() == second.tobytes()


def test_without_a_seed_the_random_state_decides():
    change = augment(**EVERYTHING)
    torch.manual_seed(5)
    first = [change(photo(), None).tobytes() for _ in range(3)]
    torch.manual_seed(5)
    assert [change(photo(), None).tobytes() for _ in range(3)] == first
    assert len(set(first)) == 3


def test_threads_with_seeds_do_not_disturb_each_other():
    change = augment(**EVERYTHING)
    alone = [change(photo(seed=i), i).tobytes() for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        assert [image.tobytes() for image in pool.map(lambda i: change(photo(seed=i), i), range(40))] == alone


def test_without_a_cut_the_image_is_fitted_as_in_evaluation():
    flipped = {augment(flip="horizontal")(photo(), seed).tobytes() for seed in range(12)}
    plain = ENCODER.fit(photo())
    mirrored = plain.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert flipped == {plain.tobytes(), mirrored.tobytes()}


def test_flips_go_in_the_directions_that_are_named():
    left, top = photo(), ENCODER.fit(photo())
    ways = {
        name: top.transpose(way).tobytes()
        for name, way in (("vertical", Image.Transpose.FLIP_TOP_BOTTOM), ("both", Image.Transpose.ROTATE_180))
    }
    assert ways["vertical"] in {augment(flip="vertical")(left, seed).tobytes() for seed in range(12)}
    assert ways["both"] in {augment(flip="both")(left, seed).tobytes() for seed in range(24)}
    assert ways["both"] not in {augment(flip="vertical")(left, seed).tobytes() for seed in range(24)}


def test_a_cut_shows_a_part_of_the_photo_that_is_as_large_as_was_asked_for():
    ramp = np.zeros((60, 60, 3), np.uint8)
    ramp[:, :, 0], ramp[:, :, 1] = np.arange(60) * 4, np.arange(60)[:, None] * 4
    change = Augment(Augmentation(min_scale=0.5), ENCODER)
    shares = []
    for seed in range(30):
        cut = pixels(change(Image.fromarray(ramp), seed))
        width, height = np.ptp(cut[..., 0]) / 236, np.ptp(cut[..., 1]) / 236
        shares.append(width * height)
    assert 0.4 < min(shares) < 0.65
    assert 0.8 < max(shares) <= 1.0


@pytest.mark.parametrize("kind", ["bytes", "path", "array", "mapping", "grey"])
def test_takes_what_the_preprocessing_takes(kind, tmp_path):
    file = io.BytesIO()
    photo().save(file, "PNG")
    (tmp_path / "photo.png").write_bytes(file.getvalue())
    values = {
        "bytes": file.getvalue(),
        "path": str(tmp_path / "photo.png"),
        "array": np.asarray(photo()),
        "mapping": {"bytes": None, "path": str(tmp_path / "photo.png")},
    }
    change = augment(**EVERYTHING)
    if kind == "grey":
        assert change(photo().convert("L"), 1).mode == "RGB"
    else:
        assert change(values[kind], 1).tobytes() == change(photo(), 1).tobytes()


def test_travels_to_other_processes():
    change = augment(**EVERYTHING)
    assert pickle.loads(pickle.dumps(change))(photo(), 4).tobytes() == change(photo(), 4).tobytes()


def test_a_contact_sheet_shows_each_photo_and_its_changed_copies():
    change = augment(**EVERYTHING)
    photos = [photo(seed=i) for i in range(3)]
    sheet = contact_sheet(photos, change, n=4)
    assert sheet.size == (5 * 36 - 4, 3 * 28 - 4)
    assert sheet.tobytes() == contact_sheet(photos, change, n=4).tobytes()
    assert sheet.tobytes() != contact_sheet(photos, change, n=4, seed=1).tobytes()
    for row, each in enumerate(photos):
        cells = [sheet.crop((36 * i, 28 * row, 36 * i + 32, 28 * row + 24)) for i in range(5)]
        assert cells[0].tobytes() == ENCODER.fit(each).tobytes()
        assert len({cell.tobytes() for cell in cells}) == 5
