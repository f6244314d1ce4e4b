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


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_labels_are_shared_as_the_pixels_are(kind):
    torch.manual_seed(0)
    mix = Mix(Augmentation(**{kind: 1.0}), n_labels=4)
    for _ in range(10):
        images, shares = mix(flat_images(), LABELS)
        assert shares.dtype == torch.float32
        torch.testing.assert_close(shares.sum(1), torch.ones(4))
        values = (shares[1, 1] * 1.0 + (1 - shares[1, 1]) * 0.0, images[1].mean())
        torch.testing.assert_close(*values)
        assert blends(images) == (kind == "mixup")


def test_each_batch_gets_one_of_both():
    torch.manual_seed(0)
    mix = Mix(Augmentation(mixup=1.0, cutmix=1.0), n_labels=3)
    blended = [blends(mix(flat_images(), LABELS)[0]) for _ in range(20)]
    assert 3 < sum(blended) < 17


def test_the_random_state_decides():
    mix = Mix(Augmentation(mixup=0.4, cutmix=0.4), n_labels=3)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(torch.cat([mix(flat_images(), LABELS)[1] for _ in range(3)]))
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
        torch.manual_seed(seed)
        images, shares, theirs = mix.beside(flat_images(), LABELS, larger)
        torch.manual_seed(seed)
        alone = mix(flat_images(), LABELS)
        assert torch.equal(images, alone[0])
        assert torch.equal(shares, alone[1])
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
