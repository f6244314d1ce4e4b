import io
import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from recorded import Recorded

from tledge.batches import Beside, Values
from tledge.batches.augment import Augment
from tledge.errors import InputError
from tledge.inputs.image import Facts, ImageInput
from tledge.model import pictures
from tledge.model.pictures import Pictures, contact_sheet
from tledge.progress import silent
from tledge.recipe.schema import Augmentation
from tledge.train.feed import worth_ahead
from tledge.train.mix import Mix, Mixed

FACTS = Facts((24, 32), 28, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ENCODER = ImageInput(FACTS)
LARGE = ImageInput(Facts((48, 64), 48, "bilinear", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
CUTS = Augment(Augmentation(flip="both", rotation_degrees=20, min_scale=0.5, color=0.3))
RANDAUGMENT = Augment(Augmentation(min_scale=0.7, randaugment=2))
TURNS = Augment(Augmentation(rotation_degrees=20, flip="horizontal"))


def photo(height=90, width=110, seed=0):
    patches = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((width, height), Image.Resampling.BICUBIC)


def file(image, kind="PNG", **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return file(photo(), "JPEG", exif=exif)


def deep():
    return file(Image.fromarray(np.asarray(photo().convert("L")).astype(np.uint16) * 257))


MODES = {
    "RGB": lambda: file(photo()),
    "L": lambda: file(photo().convert("L")),
    "1": lambda: file(photo().convert("1")),
    "LA": lambda: file(photo().convert("LA")),
    "RGBA": lambda: file(photo().convert("RGBA")),
    "P": lambda: file(photo().convert("P")),
    "CMYK": lambda: file(photo().convert("CMYK"), "TIFF"),
    "16 bit": deep,
    "turned": turned,
    "tiny": lambda: file(photo(7, 5)),
    "array": lambda: np.asarray(photo()),
    "gray array": lambda: np.asarray(photo().convert("L")),
    "mapping": lambda: {"bytes": file(photo()), "path": None},
    "image": photo,
}
VALUES = [file(photo(60 + 9 * row, 130 - 9 * row, row)) for row in range(7)]


def opened(values=VALUES, encoder=ENCODER, folder=None, **options):
    made = Pictures(values, encoder, **options)
    return made if folder is None else made.keep(folder, progress=silent, description="")


def equal(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("mode", MODES)
def test_unchanged_images_are_the_encoders_to_the_last_bit(mode, tmp_path):
    values = [MODES[mode](), file(photo(seed=3))]
    expected = ENCODER.encode(values)["pixel_values"]
    for each in (opened(values), opened(values, folder=tmp_path)):
        found = each.batch([0, 1])["pixel_values"]
        assert found.dtype == torch.float32
        assert np.array_equal(found.numpy(), expected)


@pytest.mark.parametrize("resize", [24, (24, 32), 100, None])
@pytest.mark.parametrize("interpolation", ["bilinear", "lanczos"])
def test_every_way_to_fit_is_the_encoders(resize, interpolation, tmp_path):
    encoder = ImageInput(Facts((24, 32), resize, interpolation, (0.5, 0.4, 0.3), (0.2, 0.3, 0.1), crop_offset="round"))
    found = opened(encoder=encoder, folder=tmp_path).batch([4, 0, 4])["pixel_values"]
    assert np.array_equal(found.numpy(), encoder.encode([VALUES[4], VALUES[0], VALUES[4]])["pixel_values"])


@pytest.mark.parametrize("in_graph", ["normalize", "resize_and_normalize"])
def test_a_graph_that_normalises_gets_whole_numbers(in_graph):
    encoder = ImageInput(Facts((24, 32), 28, "bicubic", FACTS.mean, FACTS.std, in_graph=in_graph))
    found = opened(encoder=encoder).batch([1, 2])["pixel_values"]
    expected = encoder.normalise([encoder.fit(encoder.decode(value)) for value in VALUES[1:3]])["pixel_values"]
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), expected)


@pytest.mark.parametrize("augment", [None, TURNS, CUTS, RANDAUGMENT])
def test_what_is_kept_gives_what_decoding_gives(augment, tmp_path):
    decoded, stored = opened(augment=augment), opened(augment=augment, folder=tmp_path)
    assert (decoded.decodes, stored.decodes) == (True, False)
    for seed in (0, 1):
        assert equal(decoded.batch([3, 0, 5], seed), stored.batch([3, 0, 5], seed))
        assert equal(decoded.batch([3, 0, 5], seed), opened(augment=augment, threads=0).batch([3, 0, 5], seed))
    views = stored.finish(stored.views([2, 4], 2, 9), 9)
    assert equal(views, decoded.finish(decoded.views([2, 4], 2, 9), 9))


def test_a_view_follows_from_the_seed_and_the_row_alone(tmp_path):
    stored = opened(augment=TURNS, folder=tmp_path)
    together = stored.batch([3, 1, 6], 5)["pixel_values"]
    torch.testing.assert_close(stored.batch([1], 5)["pixel_values"][0], together[1], atol=0.02, rtol=0)
    assert not torch.equal(stored.batch([3, 1, 6], 6)["pixel_values"], together)
    views = stored.finish(stored.views([1, 3], 3, 5), 5)["pixel_values"]
    assert len({view.numpy().tobytes() for view in views}) == 6
    torch.testing.assert_close(stored.finish(stored.views([3], 3, 5), 5)["pixel_values"], views[3:], atol=0.02, rtol=0)


def test_channels_come_last_in_memory():
    for augment in (None, CUTS):
        found = opened(augment=augment).batch([0, 1])["pixel_values"]
        assert found.shape == (2, 3, 24, 32)
        assert found.is_contiguous(memory_format=torch.channels_last)


def test_images_of_one_size_are_cut_from_one_array_and_others_are_not_enlarged(tmp_path):
    large = [file(photo(100, 120, row)) for row in range(3)]
    kept = opened(large, augment=CUTS, folder=tmp_path).kept
    assert kept.pixels.shape == (3, *CUTS.enlarged(ENCODER.size), 3)
    mixed = opened([*large, file(photo(20, 100))], augment=CUTS, folder=tmp_path).kept
    assert mixed.pixels.ndim == 1
    assert mixed.sides[3].tolist() == [20, CUTS.enlarged(ENCODER.size)[1], 20, 100]
    small = opened([file(photo(20, 30, row)) for row in range(3)], augment=CUTS, folder=tmp_path).kept
    assert small.pixels.shape == (3, 20, 30, 3)


def test_a_teacher_sees_the_same_view_in_its_own_size(tmp_path):
    ours = opened(augment=CUTS, folder=tmp_path)
    theirs = opened(encoder=LARGE, augment=CUTS, folder=tmp_path, prefix="teacher_")
    both = Beside(ours, Values({"labels": torch.arange(7)}), theirs)
    batch = both.batch([0, 2, 4, 6], 3)
    assert set(batch) == {"pixel_values", "labels", "teacher_pixel_values"}
    assert torch.equal(batch["pixel_values"], ours.batch([0, 2, 4, 6], 3)["pixel_values"])
    colours = [
        batch[name] * torch.tensor(encoder.std)[:, None, None] + torch.tensor(encoder.mean)[:, None, None]
        for name, encoder in (("pixel_values", ENCODER), ("teacher_pixel_values", LARGE))
    ]
    shrunk = torch.nn.functional.interpolate(colours[1], (24, 32), mode="bilinear", antialias=True)
    distances = (colours[0][:, None] - shrunk[None]).abs().mean((2, 3, 4))
    assert distances.argmin(1).tolist() == [0, 1, 2, 3]
    assert distances.diagonal().max() < 0.03


def test_images_are_decoded_once(tmp_path, monkeypatch):
    heard = Recorded()
    made = Pictures(VALUES, ENCODER, CUTS).keep(tmp_path, progress=heard, description="Decoding")
    assert heard == [("Decoding", 7), 7]
    assert not made.kept.reused
    monkeypatch.setattr(ImageInput, "decode", lambda *_: pytest.fail("decoded"))
    again = Pictures(VALUES, ENCODER, CUTS).keep(tmp_path, progress=heard, description="Decoding")
    assert again.kept.reused
    assert equal(again.batch([1, 2], 3), made.batch([1, 2], 3))
    other = Augment(CUTS.settings.model_copy(update={"color": 0.9, "views": 2}))
    assert opened(augment=other, folder=tmp_path).kept.reused
    normalised = ImageInput(
        Facts(*[getattr(FACTS, name) for name in ("size", "resize", "interpolation")], FACTS.std, FACTS.std)
    )
    assert opened(augment=CUTS, encoder=normalised, folder=tmp_path).kept.reused
    assert len(heard) == 2


def test_whatever_pixels_depend_on_is_kept_apart(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(VALUES[0])
    values = [str(path), *VALUES[1:]]
    folder = tmp_path / "cache"
    sets = [{}, {"values": VALUES}, {"values": values[:-1]}, {"values": [values[1], values[0], *values[2:]]},
            {"encoder": LARGE}, {"augment": CUTS}, {"augment": Augment(Augmentation(min_scale=0.9))}]  # fmt: skip
    for each in sets:
        assert not opened(**({"values": values, "folder": folder} | each)).kept.reused
    assert opened(values, folder=folder, augment=TURNS).kept.reused
    os.utime(path, (1, 1))
    assert not opened(values, folder=folder).kept.reused


def test_nothing_is_kept_where_it_would_take_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "LARGEST", 7 * 24 * 32 * 3 - 1)
    assert opened(folder=tmp_path).decodes
    assert opened(folder=tmp_path, augment=CUTS).decodes
    monkeypatch.undo()
    assert not opened(folder=tmp_path).decodes
    monkeypatch.setattr(pictures.shutil, "disk_usage", lambda _: SimpleNamespace(free=9000))
    assert opened(folder=tmp_path / "full").decodes
    assert not opened(folder=tmp_path).decodes  # it is there already


@pytest.mark.parametrize("threads", [0, 3])
def test_an_image_that_cannot_be_read_leaves_nothing(threads, tmp_path):
    values = [*VALUES[:4], {"bytes": VALUES[0][:-300], "path": "broken.png"}]
    with pytest.raises(InputError, match=r"broken\.png is damaged"):
        opened(values, folder=tmp_path, threads=threads)
    assert list(tmp_path.iterdir()) == []


def test_a_kill_halfway_leaves_nothing_wrong(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            opened(folder=tmp_path)
    found = opened(folder=tmp_path)
    assert not found.kept.reused
    assert equal(found.batch([6, 0]), opened().batch([6, 0]))


def test_threads_decode_as_many_as_are_asked_for():
    seen = set()

    class Watched(ImageInput):
        def decode(self, value):
            seen.add(threading.current_thread().name)
            return super().decode(value)

    opened(encoder=Watched(FACTS), threads=0).batch(range(7))
    assert seen == {threading.current_thread().name}
    seen.clear()
    opened(encoder=Watched(FACTS), threads=3).batch(list(range(7)) * 4)
    assert all(name.startswith("decode") for name in seen)
    assert len(seen) <= 3


def test_batches_are_made_ahead_where_images_are_decoded(tmp_path):
    decoded, kept = opened(augment=CUTS), opened(augment=CUTS, folder=tmp_path)
    cpu = torch.device("cpu")
    for workers, expected in ((None, True), (2, True), (0, False)):
        assert worth_ahead(Beside(decoded), cpu, workers) == expected
        assert not worth_ahead(Beside(kept), cpu, workers)
    assert worth_ahead(kept, torch.device("cuda"), 0)
    mixed = Mixed(Beside(kept, Values({"labels": torch.arange(7)})), Mix(Augmentation(mixup=1.0), 7))
    assert mixed.large
    assert not mixed.decodes
    assert not Values({"labels": torch.arange(7)}).large


def test_a_contact_sheet_shows_each_photo_and_its_changed_copies():
    photos = [photo(seed=i) for i in range(3)]
    sheet = contact_sheet(photos, ENCODER, CUTS, n=4)
    assert sheet.size == (5 * 36 - 4, 3 * 28 - 4)
    assert sheet.tobytes() == contact_sheet(photos, ENCODER, CUTS, n=4).tobytes()
    assert sheet.tobytes() != contact_sheet(photos, ENCODER, CUTS, n=4, seed=1).tobytes()
    for row, each in enumerate(photos):
        cells = [sheet.crop((36 * i, 28 * row, 36 * i + 32, 28 * row + 24)) for i in range(5)]
        assert cells[0].tobytes() == ENCODER.fit(each).tobytes()
        assert len({cell.tobytes() for cell in cells}) == 5


@pytest.mark.gpu
@pytest.mark.parametrize("augment", [None, TURNS, CUTS])
def test_a_gpu_gives_what_a_cpu_gives(augment, tmp_path):
    values = [file(photo(100, 120, row)) for row in range(6)]
    here = opened(values, augment=augment, folder=tmp_path)
    there = here.on(torch.device("cuda"))
    batch = there.finish({name: each.cuda() for name, each in there.take(torch.arange(6), 3).items()}, 3)
    assert there.kept.pixels.is_cuda
    apart = (batch["pixel_values"].cpu() - here.batch(range(6), 3)["pixel_values"]).abs()
    assert apart.mean() < 0.01
    if augment is None:
        assert apart.max() == 0
