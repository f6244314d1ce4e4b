"""Losses between domains against formulas by hand, and how rows of two domains are learnt together."""

import numpy as np
import pytest
import torch
from torch import nn

from tledge.batches import Beside, Values
from tledge.losses import cross_entropy
from tledge.losses.domain import coral, dann, mmd
from tledge.train import Aligned, Alongside, aligning, answers, labelled, recoloured, supervised
from tledge.train.alignment import identity


def domains(rows=40, width=5, seed=0):
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(rows, width))
    target = rng.normal(size=(rows + 7, width)) @ rng.normal(size=(width, width)) + 2
    return torch.tensor(source, dtype=torch.float32), torch.tensor(target, dtype=torch.float32)


def test_coral_is_the_distance_of_covariances():
    source, target = domains()
    difference = np.cov(source.numpy().T) - np.cov(target.numpy().T)
    assert float(coral.loss(source, target)) == pytest.approx((difference**2).sum() / (4 * 5**2), rel=1e-4)
    assert float(coral.loss(source, source)) == 0


def test_mmd_is_the_distance_of_means_in_five_kernels():
    source, target = domains(rows=6)
    x, y = source.double().numpy(), target.double().numpy()
    every = np.concatenate([x, y])
    pairs = ((every[:, None] - every[None]) ** 2).sum(-1)
    mean = pairs.sum() / (len(every) * (len(every) - 1))

    def kernel(a, b):
        squares = ((a[:, None] - b[None]) ** 2).sum(-1)
        return np.mean([np.exp(-squares / (width * mean)) for width in (0.25, 0.5, 1, 2, 4)])

    expected = kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)
    assert float(mmd.loss(source, target)) == pytest.approx(expected, abs=1e-5)
    assert float(mmd.loss(source, source)) == pytest.approx(0, abs=1e-6)


def test_dann_reverses_the_gradient_of_a_network_that_learns():
    source, target = domains(rows=6)
    network, features = nn.Linear(5, 1), source.clone().requires_grad_()
    hidden = dann.reversed_gradient(features, torch.tensor(0.7))
    assert torch.equal(hidden, features)
    dann.loss(network(hidden).squeeze(1), network(target).squeeze(1)).backward()
    # By hand: d loss / d x = sigmoid(x w + b) w / (2 rows), and minus 0.7 times that comes back.
    weight, bias = network.weight.detach().numpy()[0], network.bias.item()
    share = 1 / (1 + np.exp(-(source.numpy() @ weight + bias)))
    by_hand = share[:, None] * weight / (2 * len(source))
    np.testing.assert_allclose(features.grad.numpy(), -0.7 * by_hand, atol=1e-6)
    of_target = 1 / (1 + np.exp(-(target.numpy() @ weight + bias)))
    expected = (share @ source.numpy() / len(source) + (of_target - 1) @ target.numpy() / len(target)) / 2
    np.testing.assert_allclose(network.weight.grad.numpy()[0], expected, atol=1e-5)  # its own is not reversed


@pytest.mark.parametrize(("progress", "expected"), [(0.0, 0.0), (0.1, 0.4621), (1.0, 0.9999)])
def test_the_reversal_grows_as_in_the_paper(progress, expected):
    assert float(dann.factor(torch.tensor(progress))) == pytest.approx(expected, abs=1e-4)


def test_recoloured_features_have_the_mean_and_covariance_of_the_target():
    source, target = domains(rows=400)
    matrix, shift = coral.recolouring(source, target, ridge=1e-9)
    changed = source @ matrix + shift
    np.testing.assert_allclose(changed.mean(0), target.mean(0), atol=1e-3)
    np.testing.assert_allclose(coral.covariance(changed), coral.covariance(target), atol=1e-2, rtol=1e-3)
    of_columns = recoloured(Values({"features": source}), Values({"features": target}))(Values({"features": source}))
    matrix, shift = coral.recolouring(source, target)
    assert torch.allclose(of_columns.batch([3, 1])["features"], source[[3, 1]] @ matrix + shift)


class Probe(nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout, self.classifier = nn.Dropout(0.0), nn.Linear(5, 2)

    def forward(self, features):
        return {"logits": self.classifier(self.dropout(features))}


def columns(features, labels=None):
    found = Values({"features": features})
    return found if labels is None else Beside(found, Values({"labels": labels}))


def test_a_batch_has_as_many_rows_of_the_other_domain_the_same_for_the_same_seed():
    source, target = domains()
    rows = Alongside(columns(source, torch.arange(len(source)) % 2), columns(target))
    batch = rows.batch([1, 2, 3], seed=4)
    assert batch["features"].shape == batch["target_features"].shape == (3, 5)
    assert "target_labels" not in batch
    assert torch.equal(batch["target_features"], rows.batch([5, 6, 7], seed=4)["target_features"])
    assert not torch.equal(batch["target_features"], rows.batch([1, 2, 3], seed=5)["target_features"])


@pytest.mark.parametrize("method", ["coral", "dann", "mmd"])
def test_a_map_learns_from_both_domains_and_changes_nothing_before_it_did(method):
    torch.manual_seed(0)
    source, target = domains()
    labels = torch.arange(len(source)) % 2
    probe = Probe()
    alone = probe(source)["logits"]
    aligned = Aligned(probe, probe.dropout, method, 5, maps=True)
    aligned.begin(10)
    assert torch.equal(aligned.eval()(features=source)["logits"], alone)
    objective = aligning(supervised(cross_entropy.loss), method, 1.0)
    batch = Alongside(columns(source, labels), columns(target)).batch(range(16))
    for _ in range(2):
        outputs = aligned.train()(**{name: each for name, each in batch.items() if name != "labels"})
        loss = objective(outputs, batch["labels"], None)
    loss.backward()
    assert loss.item() > objective({"logits": outputs["logits"]}, batch["labels"], None).item()
    assert aligned.maps.weight.grad.abs().sum() > 0
    assert float(aligned.progress) == pytest.approx(0.2 if method == "dann" else 0)
    aligned.restore()
    assert torch.equal(probe(source)["logits"], alone)


def test_a_map_is_folded_into_the_head():
    from tledge.model import put_before_head

    torch.manual_seed(0)
    source, _ = domains()
    for head in (nn.Linear(5, 2), nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))):
        probe, linear = Probe(), identity(5)
        probe.classifier = head
        nn.init.normal_(linear.weight)
        nn.init.normal_(linear.bias)
        expected = probe(linear(source))["logits"]
        put_before_head(probe, linear)
        assert torch.allclose(probe(source)["logits"], expected, atol=1e-5)


def test_answers_are_in_the_order_of_the_rows():
    source, _ = domains(rows=150)
    probe = Probe()
    found = answers(probe, probe.dropout, columns(source, torch.zeros(len(source))))
    np.testing.assert_allclose(found.logits, probe(source)["logits"].detach(), atol=1e-6)
    np.testing.assert_array_equal(found.features, source)


def test_some_rows_get_labels_of_their_own():
    source, _ = domains()
    rows = labelled(columns(source), np.array([7, 8]), np.array([3, 5]))
    batch = rows.batch([1, 0])
    assert len(rows) == 2
    assert torch.equal(batch["features"], source[[5, 3]])
    assert batch["labels"].tolist() == [8, 7]
