import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from tledge.errors import TrainError
from tledge.train import label_weights
from tledge.train.weights import balanced_weights

LABELS = ("a", "b", "c")

SCALE = (0.0, 1.0)  # of targets that have a unit


def test_balanced_weights_are_those_of_scikit_learn():
    targets = np.random.default_rng(0).choice(3, 500, p=[0.7, 0.2, 0.1])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=targets)
    weights = label_weights("balanced", targets, LABELS, None)
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-6)
    assert weights.dtype == torch.float32
    assert weights[torch.from_numpy(targets)].mean().item() == pytest.approx(1)


def test_balanced_weights_of_several_labels_are_the_rows_without_by_the_rows_with():
    targets = np.zeros((10, 3), np.float32)
    targets[:2, 0], targets[:5, 1], targets[:8, 2] = 1, 1, 1
    assert balanced_weights(targets, 3).tolist() == pytest.approx([8 / 2, 5 / 5, 2 / 8])


def test_labels_on_no_row_or_on_every_row_keep_a_finite_weight_above_zero():
    assert balanced_weights(np.array([0, 0, 1]), 3).tolist() == pytest.approx([0.5, 1.0, 1.0])
    targets = np.stack([np.zeros(4), np.ones(4)], axis=1)
    assert balanced_weights(targets, 2).tolist() == [4.0, 0.25]


def test_named_weights_follow_the_labels_and_default_to_one():
    assert label_weights({"c": 3.0, "a": 0.5}, np.array([0]), LABELS, None).tolist() == [
        0.5,
        1.0,
        3.0,
    ]
    assert label_weights(None, np.array([0]), LABELS, None) is None


def test_a_weight_for_no_label_is_an_error():
    with pytest.raises(TrainError, match=r"finetune\.class_weights: 'bb' is no label; known are a, b, c; did you mean"):
        label_weights({"bb": 1.0}, np.array([0]), LABELS, None)


def test_numbers_are_weighed_by_their_spread():
    targets = np.array([10, 20, 30, 60], np.float32)
    weight = label_weights(None, targets, ("price",), SCALE)
    assert (weight * torch.from_numpy(targets)).std(correction=0).item() == pytest.approx(1)
    assert weight.shape == (1,)
    assert weight.dtype == torch.float32


@pytest.mark.parametrize("setting", ["balanced", {"price": 2.0}])
def test_a_regression_has_no_classes_to_weigh(setting):
    with pytest.raises(TrainError, match=r"^finetune\.class_weights: a regression has no classes"):
        label_weights(setting, np.array([1, 2], np.float32), ("price",), SCALE)


def test_numbers_that_are_all_the_same_are_refused():
    with pytest.raises(TrainError, match=r"^the 5 training rows have all the same price, 0\.1; expected numbers that"):
        label_weights(None, np.full(5, 0.1, np.float32), ("price",), SCALE)


def test_messages_name_the_section_of_the_recipe():
    targets = np.array([0, 1])
    with pytest.raises(TrainError, match=r"^distill\.class_weights: 'z' is no label"):
        label_weights({"z": 2.0}, targets, LABELS, None, section="distill")
    with pytest.raises(TrainError, match=r"^distill\.class_weights: a regression"):
        label_weights("balanced", targets, ("y",), SCALE, section="distill")
