"""The losses of vectors of texts are those of sentence-transformers, and parts of a step are divided by its rows."""

import inspect

import pytest
import torch
from sentence_transformers.sentence_transformer import losses as theirs
from sentence_transformers.util import cos_sim

from tledge import plugins

PACKAGE = "tledge.losses.embedding"
ALL = plugins.names(PACKAGE)
ROWS, SIZE = 12, 16


def vectors(texts, seed=0):
    return torch.randn(ROWS, texts, SIZE, generator=torch.Generator().manual_seed(seed), requires_grad=True)


def numbers(texts):
    return torch.arange(ROWS * texts).reshape(ROWS, texts)


def loss_of(name, *arguments, **options):
    return plugins.load(PACKAGE, name).loss(*arguments, **options)


BATCHES = {
    "multiple_negatives": (vectors(3), numbers(3)),
    "cosent": (vectors(2), torch.arange(ROWS) % 5 / 4),
    "cosine_regression": (vectors(2), torch.arange(ROWS) % 5 / 4),
    "triplet": (vectors(3), numbers(3)),
    "supervised_contrastive": (vectors(1), torch.arange(ROWS) % 3),
}


def reference(loss, embeddings, labels):
    """A loss of sentence-transformers on vectors, without a model."""
    return loss.compute_loss_from_embeddings(list(embeddings.unbind(dim=1)), labels)


def test_all_losses_have_a_batch_here():
    assert sorted(BATCHES) == ALL


@pytest.mark.parametrize("name", ALL)
def test_takes_the_arguments_of_the_contract(name):
    module = plugins.load(PACKAGE, name)
    parameters = inspect.signature(module.loss).parameters
    assert list(parameters) == ["embeddings", "targets", "n_items"]
    assert parameters["n_items"].default is None
    assert module.__doc__ and module.loss.__doc__


@pytest.mark.parametrize("texts", [2, 3])
def test_multiple_negatives_is_theirs(texts):
    found = vectors(texts)
    expected = reference(theirs.MultipleNegativesRankingLoss(model=None), found, None)
    torch.testing.assert_close(loss_of("multiple_negatives", found, numbers(texts)), expected)


def test_a_text_that_answers_the_query_too_is_no_negative():
    found, targets = vectors(2), numbers(2)
    targets[3, 1] = targets[0, 1]  # the same document again
    targets[5, 0] = targets[1, 0]  # the same query with another answer
    scores = 20 * cos_sim(found[:, 0], found[:, 1])
    for row, other in ((0, 3), (3, 0), (1, 5), (5, 1)):
        scores[row, other] = -torch.inf
    expected = torch.nn.functional.cross_entropy(scores, torch.arange(ROWS))
    torch.testing.assert_close(loss_of("multiple_negatives", found, targets), expected)


def test_cosent_is_theirs():
    found, scores = BATCHES["cosent"]
    expected = reference(theirs.CoSENTLoss(model=None), found, scores)
    torch.testing.assert_close(loss_of("cosent", found, scores), expected)
    torch.testing.assert_close(loss_of("cosent", found, 5 * scores), expected)  # the scale of the scores is no matter


def test_cosine_regression_is_theirs():
    found, scores = BATCHES["cosine_regression"]
    expected = reference(theirs.CosineSimilarityLoss(model=None), found, scores)
    torch.testing.assert_close(loss_of("cosine_regression", found, scores), expected)


def test_triplet_is_theirs():
    found, _ = BATCHES["triplet"]
    distance = theirs.TripletDistanceMetric.COSINE
    expected = reference(theirs.TripletLoss(model=None, distance_metric=distance, triplet_margin=0.5), found, None)
    torch.testing.assert_close(loss_of("triplet", found, numbers(3)), expected)


def test_supervised_contrastive_is_the_formula():
    found, labels = BATCHES["supervised_contrastive"]
    scores = 20 * cos_sim(found[:, 0], found[:, 0])
    total = 0.0
    for i in range(ROWS):
        others = [j for j in range(ROWS) if j != i]
        same = [j for j in others if labels[j] == labels[i]]
        normal = torch.logsumexp(scores[i, others], 0)
        total += -torch.stack([scores[i, j] - normal for j in same]).mean() / ROWS
    torch.testing.assert_close(loss_of("supervised_contrastive", found, labels), total)


def test_a_label_that_is_alone_in_its_batch_counts_nothing():
    found = vectors(1)
    assert loss_of("supervised_contrastive", found, torch.arange(ROWS)).item() == 0


@pytest.mark.parametrize("name", ALL)
def test_a_batch_is_divided_by_the_rows_of_the_whole_step(name):
    found, targets = BATCHES[name]
    alone = loss_of(name, found, targets)
    for n_items in (2 * ROWS, torch.tensor(2 * ROWS), 2.0 * ROWS):
        torch.testing.assert_close(loss_of(name, found, targets, n_items=n_items), alone / 2)
    torch.testing.assert_close(loss_of(name, found, targets, n_items=ROWS), alone)


@pytest.mark.parametrize("name", ALL)
def test_half_precision_vectors_are_compared_in_float32(name):
    found, targets = BATCHES[name]
    half = loss_of(name, found.half(), targets)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss_of(name, found, targets), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("name", ALL)
def test_the_gradient_lowers_the_loss(name):
    found, targets = BATCHES[name]
    found = found.detach().clone().requires_grad_()
    value = loss_of(name, found, targets)
    value.backward()
    assert loss_of(name, found.detach() - 0.1 * found.grad, targets) < value
