import pytest
import torch

from tledge.batches import Columns
from tledge.recipe.schema import Augmentation
from tledge.train.mix import Mix, Mixed

LABELS = torch.tensor([0, 1, 2, 1])


def flat_images():
    """Four images of one value each, so that a mixed pixel tells its share."""
    return torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 3, 8, 8).clone()


def blends(images):
    return bool((images != images.round()).any())


def mixed(mix, seed=0, **more):
    batch = mix({"pixel_values": flat_images(), "labels": LABELS} | more, seed)
    return batch["pixel_values"], batch["labels"]


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_labels_are_shared_as_the_pixels_are(kind):
    mix = Mix(Augmentation(**{kind: 1.0}), n_labels=4)
    kept = []
    for seed in range(40):
        images, shares = mixed(mix, seed)
        assert shares.dtype == torch.float32
        torch.testing.assert_close(shares.sum(1), torch.ones(4))
        torch.testing.assert_close(shares[1, 1], images[1].mean())
        assert blends(images) == (kind == "mixup" and 0 < float(shares[1, 1]) < 1)
        kept.append(float(shares[1, 1]))
    assert 0.35 < sum(kept) / 40 < 0.75  # cut off at the border, parts are smaller than they were drawn
    assert max(kept) - min(kept) > 0.5


def test_a_part_is_pasted_where_it_came_from():
    images = torch.rand(4, 3, 8, 8)
    batch = Mix(Augmentation(cutmix=1.0), n_labels=4)({"pixel_values": images, "labels": LABELS}, 4)
    own, other = (batch["pixel_values"] == each for each in (images, images.roll(1, 0)))
    assert (own | other).all()
    assert 0 < int(other.sum()) < other.numel()
    assert (other.amax((0, 1)) == other.amin((0, 1))).all()


def test_each_batch_gets_one_of_both():
    mix = Mix(Augmentation(mixup=1.0, cutmix=1.0), n_labels=3)
    blended = [blends(mixed(mix, seed)[0]) for seed in range(40)]
    assert 8 < sum(blended) < 32


def test_the_seed_decides():
    mix = Mix(Augmentation(mixup=0.4, cutmix=0.4), n_labels=3)
    results = [torch.cat([mixed(mix, seed)[1] for seed in seeds]) for seeds in ((1, 2, 3), (1, 2, 3), (4, 5, 6))]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


class Rows(Columns):
    def __len__(self):
        return 4

    def take(self, numbers, seed):
        return {"pixel_values": flat_images()[numbers], "labels": LABELS[numbers]}


def test_rows_are_mixed_as_their_seed_says():
    rows = Mixed(Rows(), Mix(Augmentation(cutmix=1.0), n_labels=3))
    assert len(rows) == 4
    before = torch.get_rng_state()
    batch = rows.batch([3, 0], seed=1)
    assert batch["pixel_values"].shape == (2, 3, 8, 8)
    assert batch["labels"].shape == (2, 3)
    assert torch.equal(rows.batch([3, 0], seed=1)["pixel_values"], batch["pixel_values"])
    assert not torch.equal(rows.batch([3, 0], seed=2)["pixel_values"], batch["pixel_values"])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("size", [8, 16, 20])
def test_a_teacher_sees_the_same_mixture_in_its_own_size(kind, size):
    mix = Mix(Augmentation(**{kind: 1.0}), n_labels=4)
    larger = torch.nn.functional.interpolate(flat_images(), (size, size)) * 10
    for seed in range(10):
        batch = mix({"pixel_values": flat_images(), "labels": LABELS, "teacher_pixel_values": larger}, seed)
        images, theirs = batch["pixel_values"], batch["teacher_pixel_values"]
        alone = mixed(mix, seed)
        assert torch.equal(images, alone[0])
        assert torch.equal(batch["labels"], alone[1])
        if size % 8 == 0:
            torch.testing.assert_close(theirs, torch.nn.functional.interpolate(images, (size, size)) * 10)
        # corners of the box lie on whole pixels
        torch.testing.assert_close(theirs.mean((1, 2, 3)) / 10, images.mean((1, 2, 3)), atol=0.2, rtol=0)


def test_batches_of_a_distillation_are_mixed_as_one():
    class DistillationSets(Columns):
        def __len__(self):
            return 4

        def take(self, rows, seed):
            return {
                "pixel_values": flat_images()[rows],
                "teacher_pixel_values": flat_images()[rows] * 10,
                "labels": LABELS[rows],
                "labelled": torch.tensor([True, True, False, True])[rows],
            }

    batch = Mixed(DistillationSets(), Mix(Augmentation(mixup=1.0), n_labels=4)).batch([0, 1, 2, 3])
    torch.testing.assert_close(batch["teacher_pixel_values"], batch["pixel_values"] * 10)
    assert batch["labels"].shape == (4, 4)
    assert batch["labelled"].tolist() == [True, True, False, False]  # each is mixed with the one before it
