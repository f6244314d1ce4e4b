"""Pairs of a few labelled rows, and the encoder that learns from them."""

from __future__ import annotations

import families
import numpy as np
import pytest
import torch

from tledge import model
from tledge.batches import Values
from tledge.model.few_shot import PairColumns
from tledge.progress import silent
from tledge.recipe.schema import Finetune

TARGETS = np.array([0, 0, 0, 1, 1, 2, 2, 2])


def test_each_row_has_as_many_partners_of_its_label_as_of_others():
    pairs = model.draw_pairs(TARGETS, 5, seed=1)
    assert len(pairs) == 2 * 5 * len(TARGETS)
    np.testing.assert_array_equal(TARGETS[pairs.first] == TARGETS[pairs.second], pairs.same.astype(bool))
    assert not (pairs.first == pairs.second).any()
    for row in range(len(TARGETS)):
        assert pairs.same[pairs.first == row].tolist() == [1.0] * 5 + [0.0] * 5
    again, other = (model.draw_pairs(TARGETS, 5, seed=seed) for seed in (1, 2))
    assert again.second.tolist() == pairs.second.tolist() != other.second.tolist()


def test_the_only_row_of_a_label_is_not_paired_with_itself():
    pairs = model.draw_pairs(np.array([0, 1, 1]), 4, seed=0)
    assert pairs.same[pairs.first == 0].tolist() == [0.0] * 4
    assert len(pairs) == 4 + 8 + 8


def test_a_batch_has_each_row_once_and_says_where_the_pairs_are():
    pairs = model.draw_pairs(TARGETS, 3, seed=0)
    columns = PairColumns(Values({"numbers": torch.arange(8), "labels": torch.zeros(8)}), pairs)
    rows = [0, 7, 20, 33, 34]
    batch = columns.batch(rows)
    numbers = batch["numbers"]
    assert len(numbers) == len(set(numbers.tolist())) == len({*pairs.first[rows], *pairs.second[rows]})
    assert numbers[batch["first"]].tolist() == pairs.first[rows].tolist()
    assert numbers[batch["second"]].tolist() == pairs.second[rows].tolist()
    assert batch["labels"].tolist() == pairs.same[rows].tolist()


def test_the_vectors_of_pairs_are_those_of_their_texts(pretrained, tmp_path):
    built, backbone = families.classifier(pretrained("bert"))
    encoder = families.encoder(built, backbone, tmp_path / "tokenizer")
    texts = list(families.TEXTS)
    vectors = model.features_of(
        built,
        encoder,
        model.Rows(texts, np.zeros(len(texts), dtype=np.int64)),
        cache=tmp_path / "cache",
        progress=silent,
        settings=Finetune(),
        seed=0,
    )
    inputs = {name: torch.from_numpy(each) for name, each in encoder.encode(texts).items()}
    with torch.no_grad():
        found = model.Twins(built)(torch.tensor([0, 3]), torch.tensor([5, 3]), **inputs)["sentence_embedding"]
    np.testing.assert_allclose(found.numpy(), vectors[[[0, 5], [3, 3]]], atol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_head_is_given_its_weights(normalize):
    head = model.new_head(6, 3, dropout_prob=0.0, hidden_size=None, normalize=normalize)
    rng = np.random.default_rng(0)
    weight, bias, features = (rng.normal(size=size).astype(np.float32) for size in ((3, 6), 3, (4, 6)))
    model.set_linear(head, weight, bias)
    lengths = np.linalg.norm(features, axis=1, keepdims=True) if normalize else 1.0
    with torch.no_grad():
        found = head(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(found, features / lengths @ weight.T + bias, atol=1e-5)
