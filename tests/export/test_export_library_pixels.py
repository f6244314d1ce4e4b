"""How far our pixels are from the libraries' own, in units that a person can read."""

import dataclasses

import numpy as np
import pytest

from tledge.export.library_pixels import LibraryPixels, compare_pixels
from tledge.inputs.image import Facts, ImageInput, write_config

FACTS = Facts((48, 48), 56, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop_offset="round")
IMAGES = [np.random.default_rng(i).integers(0, 256, (90 - 9 * i, 61 + 13 * i, 3), dtype=np.uint8) for i in range(4)]


def encoder(folder, facts):
    write_config(folder, facts)
    return ImageInput.load(folder)


@pytest.mark.parametrize(
    "changes",
    [{}, {"rescale_factor": 1 / 127.5, "mean": (1.0, 1.0, 1.0), "std": (1.0, 1.0, 1.0)}, {"resize": (48, 48)}],
)
def test_torchvision_gives_the_same_pixels(tmp_path, changes):
    facts = dataclasses.replace(FACTS, **changes)
    theirs = LibraryPixels(facts)
    assert theirs.name == "torchvision"
    assert compare_pixels(encoder(tmp_path, facts), theirs, IMAGES)["max_abs_diff"] < 1e-6


def test_transformers_resizes_tensors_and_is_off_by_a_step_of_255_here_and_there(tmp_path):
    facts = dataclasses.replace(FACTS, crop_offset="floor")
    theirs = LibraryPixels(facts)
    assert theirs.name == "transformers"
    found = compare_pixels(encoder(tmp_path, facts), theirs, IMAGES)
    assert found["max_abs_diff"] < 1.01 / 255
    assert found["mean_abs_diff"] < 1e-4


def test_another_mean_is_noticed_in_units_of_a_pixel(tmp_path):
    ours = encoder(tmp_path, FACTS)
    theirs = LibraryPixels(dataclasses.replace(FACTS, mean=(0.585, 0.456, 0.406)))
    found = compare_pixels(ours, theirs, IMAGES)
    assert found["max_abs_diff"] == pytest.approx(0.1, abs=1e-4)
    assert found["mean_abs_diff"] == pytest.approx(0.1 / 3, abs=1e-4)
