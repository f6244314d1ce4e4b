import families
import numpy as np
import pytest
import torch
from PIL import Image
from recorded import Recorded

from tledge import model
from tledge.batches import Augment
from tledge.inputs.image import Facts, ImageInput
from tledge.progress import silent
from tledge.recipe.schema import Augmentation

SMALL = ImageInput(Facts((24, 24), 24, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
LARGE = ImageInput(Facts((48, 48), 48, "bilinear", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
OTHER_SCALE = ImageInput(Facts((24, 24), 24, "bilinear", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
EVERYTHING = Augmentation(flip="both", rotation_degrees=20, min_scale=0.5, color=0.3, randaugment=1)


def photos(count, seed=0):
    """Soft coloured patches, each one different."""
    rng = np.random.default_rng(seed)
    images = [Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)).resize((80, 60)) for _ in range(count)]
    return model.Rows(images, rng.integers(0, 2, count))


def of_images(teacher_encoder=None, **options):
    return model.distillation_sets(SMALL, photos(6), photos(4, 1), teacher_encoder=teacher_encoder, **options)


def colours(pixels, encoder):
    """Pixels as they were before normalisation, from 0 to 1."""
    return pixels * torch.tensor(encoder.std)[:, None, None] + torch.tensor(encoder.mean)[:, None, None]


@pytest.fixture
def encoders(pretrained, tmp_path):
    """The tokenizers of a BERT and of a GPT-2 with their own words."""
    made = {}
    for family in ("bert", "gpt2"):
        built, backbone = families.classifier(pretrained(family))
        made[family] = families.encoder(built, backbone, tmp_path / family)
    return made


def equal(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


def test_texts_that_both_read_alike_are_encoded_once(encoders):
    rows, validation = families.rows(6, 1), families.rows(4, 2)
    lessons = model.distillation_sets(encoders["bert"], rows, validation, teacher_encoder=encoders["bert"])
    batch = lessons.train.batch([4, 1])
    expected = encoders["bert"].encode([rows.values[4], rows.values[1]])
    assert set(batch) == {*expected, "labels"}
    assert all(np.array_equal(batch[name], expected[name]) for name in expected)
    assert batch["labels"].tolist() == rows.targets[[4, 1]].tolist()
    assert lessons.validation.batch([0])["labels"].tolist() == validation.targets[:1].tolist()
    assert (len(lessons.train), len(lessons.validation), lessons.train.decodes) == (6, 4, False)
    assert lessons.labelled_share == 1


def test_a_teacher_with_its_own_tokenizer_reads_the_same_texts(encoders):
    rows = families.rows(6, 1)
    lessons = model.distillation_sets(encoders["bert"], rows, rows, teacher_encoder=encoders["gpt2"])
    batch = lessons.train.batch([4, 1])
    texts = [rows.values[4], rows.values[1]]
    for prefix, family in (("", "bert"), ("teacher_", "gpt2")):
        for name, array in encoders[family].encode(texts).items():
            assert np.array_equal(batch[prefix + name], array)
    assert "teacher_token_type_ids" not in batch
    assert not any(name.startswith("teacher_") for name in lessons.validation.batch([0]))
    assert equal(lessons.unchanged.batch([4, 1]), {name: batch[name] for name in batch if "teacher_" in name})


def test_rows_without_labels_come_after_the_others(encoders):
    rows = families.rows(3, 1)
    lessons = model.distillation_sets(encoders["bert"], rows, rows, unlabelled=["fresh tea", "a stale room"])
    assert len(lessons.train) == 5
    assert lessons.labelled_share == pytest.approx(0.6)
    batch = lessons.train.batch([3, 0, 4])
    assert batch["labelled"].tolist() == [False, True, False]
    expected = encoders["bert"].encode(["fresh tea", rows.values[0], "a stale room"])
    assert np.array_equal(batch["input_ids"], expected["input_ids"])
    assert batch["labels"][1] == rows.targets[0]
    assert "labelled" not in model.distillation_sets(encoders["bert"], rows, rows).train.batch([0])


@pytest.mark.parametrize("targets", [np.ones((3, 4), np.float32), np.full(3, -100.0, np.float32)])
def test_rows_without_labels_hold_the_place_of_every_kind_of_target(targets, encoders):
    rows = model.Rows(["a", "tea", "room"], targets)
    lessons = model.distillation_sets(encoders["bert"], rows, rows, unlabelled=["fresh tea"])
    labels = lessons.train.batch([0, 3])["labels"]
    assert labels.shape == (2, *targets.shape[1:])
    assert labels.dtype == torch.float32
    assert labels[0].flatten()[0] == pytest.approx(targets.flat[0])


def test_images_are_read_when_they_are_asked_for_only():
    class Watched(list):
        def __getitem__(self, row):
            asked.append(row)
            return super().__getitem__(row)

    asked = []
    rows = photos(4)
    lessons = model.distillation_sets(
        SMALL, model.Rows(Watched(rows.values), rows.targets), rows, unlabelled=Watched(photos(3, 5).values)
    )
    assert not asked
    lessons.train.batch([1, 5])
    assert asked == [1, 1]


def test_images_that_are_left_as_they_are_get_the_size_of_each(tmp_path):
    lessons = of_images(LARGE)
    batch = lessons.train.batch([2, 3])
    values = [photos(6).values[row] for row in (2, 3)]
    assert np.array_equal(batch["pixel_values"], SMALL.encode(values)["pixel_values"])
    assert np.array_equal(batch["teacher_pixel_values"], LARGE.encode(values)["pixel_values"])
    assert lessons.train.decodes
    assert not of_images(LARGE, cache=tmp_path).train.decodes
    assert set(of_images(SMALL).train.batch([0])) == {"pixel_values", "labels"}


@pytest.mark.parametrize("teacher_encoder", [LARGE, OTHER_SCALE])
def test_both_see_the_same_random_view(teacher_encoder):
    change = Augment(EVERYTHING)
    lessons = of_images(teacher_encoder, augment=change)
    batch = lessons.train.batch([0, 1, 2, 3], seed=3)
    ours, theirs = colours(batch["pixel_values"], SMALL), colours(batch["teacher_pixel_values"], teacher_encoder)
    shrunk = torch.nn.functional.interpolate(theirs, (24, 24), mode="bilinear", antialias=True)
    distances = (ours[:, None] - shrunk[None]).abs().mean((2, 3, 4))
    plain = colours(torch.from_numpy(SMALL.encode(photos(6).values[:4])["pixel_values"]), SMALL)
    assert distances.argmin(1).tolist() == [0, 1, 2, 3]
    assert distances.diagonal().max() < 0.06
    assert (ours - plain).abs().mean((1, 2, 3)).min() > 0.1
    if teacher_encoder is OTHER_SCALE:
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_views_are_drawn_anew_and_are_the_same_from_the_same_seed():
    lessons = of_images(LARGE, augment=Augment(EVERYTHING))
    first, second = (lessons.train.batch([0, 1], seed) for seed in range(2))
    assert equal(lessons.train.batch([0, 1], 0), first)
    assert not torch.equal(first["pixel_values"], second["pixel_values"])
    plain = lessons.validation.batch([0])
    assert equal(plain, lessons.validation.batch([0]))
    assert np.array_equal(plain["pixel_values"], SMALL.encode(photos(4, 1).values[:1])["pixel_values"])


def test_images_that_are_kept_decoded_are_the_same(tmp_path):
    options = {"augment": Augment(EVERYTHING), "unlabelled": photos(3, 5).values}
    decoded, kept = of_images(LARGE, **options), of_images(LARGE, cache=tmp_path, workers=2, **options)
    assert not kept.train.decodes
    assert equal(decoded.train.batch([0, 8, 3], 4), kept.train.batch([0, 8, 3], 4))
    assert equal(decoded.unchanged.batch([7, 1]), kept.unchanged.batch([7, 1]))
    assert equal(decoded.validation.batch([1, 2]), kept.validation.batch([1, 2]))


class Sums(torch.nn.Module):
    """Two logits that tell an image."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, pixel_values):
        assert not self.training
        return {"logits": torch.stack([pixel_values.mean((1, 2, 3)), pixel_values.std((1, 2, 3))], 1) * self.scale}


@pytest.mark.parametrize("teacher_encoder", [None, LARGE])
def test_kept_logits_are_the_teachers_on_unchanged_rows(teacher_encoder):
    lessons = of_images(teacher_encoder, augment=Augment(EVERYTHING), unlabelled=photos(3, 7).values)
    heard = Recorded()
    kept = model.with_teacher_logits(lessons, Sums().train(), batch_size=4, progress=heard)
    batch = kept.train.batch([8, 1])
    values = [photos(3, 7).values[2], photos(6).values[1]]
    pixels = torch.from_numpy((teacher_encoder or SMALL).encode(values)["pixel_values"])
    torch.testing.assert_close(batch["teacher_logits"], Sums().eval()(pixels)["logits"].detach())
    assert batch["teacher_logits"].dtype == torch.float32
    assert set(batch) == {"pixel_values", "teacher_logits", "labels", "labelled"}
    assert kept.labelled_share == lessons.labelled_share
    assert heard == [("Teacher over the training rows", 9), 4, 4, 1]
    changed = kept.train.batch([1])["pixel_values"]
    assert not np.array_equal(changed, SMALL.encode(values[1:])["pixel_values"])  # the student's view is still changed
    assert kept.validation is lessons.validation


def test_kept_logits_of_texts(encoders, pretrained):
    built, _ = families.classifier(pretrained("gpt2"))
    rows = families.rows(5, 1)
    lessons = model.distillation_sets(encoders["bert"], rows, rows, teacher_encoder=encoders["gpt2"])
    kept = model.with_teacher_logits(lessons, built, batch_size=2, progress=silent)
    batch = kept.train.batch([3])
    with torch.no_grad():
        tensors = {n: torch.from_numpy(a) for n, a in encoders["gpt2"].encode([rows.values[3]]).items()}
        expected = built(**tensors)["logits"]
    torch.testing.assert_close(batch["teacher_logits"], expected, rtol=1e-4, atol=1e-5)
    assert not any(name.startswith("teacher_") and name != "teacher_logits" for name in batch)
