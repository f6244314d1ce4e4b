import dataclasses

import pytest

from tledge.report import ImageFacts, PreprocessingFacts, images


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (ImageFacts((32, 32), (32, 32), "bicubic"), "resized to 32 × 32 pixels (bicubic)"),
        (ImageFacts((28, 28)), "the middle 28 × 28 cut out"),
        (ImageFacts((240, 320), (256,)), "the shorter side resized to 256 pixels; the middle 240 × 320 cut out"),
        (
            ImageFacts((8, 8), (8, 8), "", (0.5, 0.5, 0.5), (0.25, 0.5, 0.25)),
            "resized to 8 × 8 pixels; red, green and blue from 0 to 1 minus 0.5, divided by 0.25, 0.5, 0.25",
        ),
        (ImageFacts(), ""),
    ],
)
def test_preprocessing_in_words(facts, text):
    assert images.preprocessing(facts) == text


def test_augmentation_in_words_keeps_its_order_and_what_it_does_not_know():
    settings = {"views": 2, "mixup": 0.2, "flip": "horizontal", "blur": 3}
    assert (
        images.augmentation(settings) == "mirrored (horizontal), mixup (alpha 0.2), 2 views of each image kept, blur 3"
    )
    assert images.augmentation({}) == ""


def test_comparison_tells_only_what_was_measured():
    bare = PreprocessingFacts("torchvision")
    assert len(images.comparison(bare)) == 1
    same = images.comparison(dataclasses.replace(bare, max_abs_diff=0.0))
    assert same[1] == "Not a pixel differs from torchvision's own."
    far = images.comparison(dataclasses.replace(bare, max_abs_diff=0.2, mean_abs_diff=0.02))
    assert "at most 51/255 of a pixel value, 5.1/255 on average" in far[1]
    graph = images.comparison(dataclasses.replace(bare, graph_mode="normalize"))
    assert graph[1] == "The graph normalises resized uint8 images itself."
