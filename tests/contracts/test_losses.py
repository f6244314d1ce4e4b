"""Every loss on disk is held to the same contract, and its values to formulas written out by hand."""

import inspect

import numpy as np
import pytest
import torch

from tledge import losses, plugins

ALL = plugins.names(losses.__name__)
KEYWORDS = {"label_weights": None, "label_smoothing": 0.0, "n_items": None}


REGRESSION = {"mse", "huber"}
CLASS_WEIGHTS, SCALE = torch.tensor([0.5, 1.0, 4.0]), torch.tensor([0.25])


def batch(name, rows=8, labels=3, seed=0):
    rng = np.random.default_rng(seed)
    if name == "answer_span":  # nine tokens, of which a context begins at the third, fourth or fifth
        none, first, size = np.zeros(rows, int), rng.integers(2, 5, rows), rng.integers(1, 5, rows)
        starts = first + rng.integers(0, size)
        ends = np.maximum(starts, first + rng.integers(0, size))
        is_none = np.arange(rows) % 4 == 1
        targets = np.stack([np.where(is_none, 0, starts), np.where(is_none, 0, ends), none, first, size], axis=1)
        targets[::3, :4] -= 9  # counted from the end
        return torch.tensor(rng.normal(size=(rows, 9, 2)) * 3, dtype=torch.float32), torch.tensor(targets)
    if name in REGRESSION:
        logits = torch.tensor(rng.normal(size=(rows, 1)) * 3, dtype=torch.float32)
        return logits, torch.tensor(rng.normal(size=rows), dtype=torch.float32)
    logits = torch.tensor(rng.normal(size=(rows, labels)) * 3, dtype=torch.float32)
    if name == "cross_entropy":
        return logits, torch.tensor(rng.integers(0, labels, rows))
    return logits, torch.tensor(rng.integers(0, 2, (rows, labels)), dtype=torch.float32)


def weights_of(name):
    return SCALE if name in REGRESSION else CLASS_WEIGHTS[:2] if name == "answer_span" else CLASS_WEIGHTS


def by_hand(name, logits, targets, weights, smoothing):
    x, t = logits.double().numpy(), targets.double().numpy() if name != "cross_entropy" else targets.numpy()
    w = np.ones(x.shape[1]) if weights is None else weights.double().numpy()
    if name == "answer_span":
        total = 0.0
        for row, (start, end, none, first, size) in zip(x, t.astype(int) % 9, strict=True):
            allowed = [none, *range(first, first + size)]
            for part, right in enumerate((start, end)):
                log_p = row[allowed, part] - np.log(np.exp(row[allowed, part]).sum())
                total -= (1 - smoothing) * log_p[allowed.index(right)] + smoothing * log_p.mean()
        return total / 2 / len(x)
    if name in REGRESSION:
        d = np.abs(w[0] * (x[:, 0] - t))
        return float(np.mean(d**2 if name == "mse" else np.where(d <= 1, d**2 / 2, d - 0.5)))
    if name == "cross_entropy":
        log_p = x - np.log(np.exp(x).sum(1, keepdims=True))
        shares = np.eye(x.shape[1])[t] if t.ndim == 1 else t
        spread = shares * (1 - smoothing) + smoothing / x.shape[1]
        return float(-(spread * w * log_p).sum(1).mean())
    p, spread = 1 / (1 + np.exp(-x)), t * (1 - smoothing) + smoothing / 2
    return float(-(w * spread * np.log(p) + (1 - spread) * np.log(1 - p)).mean())


def test_the_losses_are_found():
    assert ALL == ["answer_span", "binary_cross_entropy", "cross_entropy", "huber", "mse"]


@pytest.mark.parametrize("name", ALL)
def test_takes_the_arguments_of_the_contract(name):
    module = plugins.load(losses.__name__, name)
    parameters = inspect.signature(module.loss).parameters
    assert list(parameters)[:2] == ["logits", "targets"]
    assert {n: p.default for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY} == KEYWORDS
    assert module.__doc__ and module.loss.__doc__


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_value_is_that_of_the_formula(name, weighted, smoothing):
    logits, targets = batch(name)
    weights = weights_of(name) if weighted else None
    value = plugins.load(losses.__name__, name).loss(logits, targets, label_weights=weights, label_smoothing=smoothing)
    assert value.ndim == 0
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(by_hand(name, logits, targets, weights, smoothing), rel=1e-5)


def test_plain_values_are_those_of_torch():
    for name, reference in (
        ("cross_entropy", torch.nn.functional.cross_entropy),
        ("binary_cross_entropy", torch.nn.functional.binary_cross_entropy_with_logits),
        ("mse", lambda logits, targets: torch.nn.functional.mse_loss(logits[:, 0], targets)),
        ("huber", lambda logits, targets: torch.nn.functional.huber_loss(logits[:, 0], targets)),
    ):
        logits, targets = batch(name)
        value = plugins.load(losses.__name__, name).loss(logits, targets)
        torch.testing.assert_close(value, reference(logits, targets))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, CLASS_WEIGHTS])
def test_cross_entropy_takes_shares_of_labels(weights, smoothing):
    loss = plugins.load(losses.__name__, "cross_entropy").loss
    logits, indices = batch("cross_entropy")
    one_hot = torch.nn.functional.one_hot(indices, 3).float()
    settings = {"label_weights": weights, "label_smoothing": smoothing}
    torch.testing.assert_close(loss(logits, one_hot, **settings), loss(logits, indices, **settings))
    mixed = 0.3 * one_hot + 0.7 * one_hot.roll(1, 0)
    expected = by_hand("cross_entropy", logits, mixed, weights, smoothing)
    assert loss(logits, mixed, **settings).item() == pytest.approx(expected, rel=1e-5)


def test_large_errors_pull_less_in_the_huber_loss():
    targets = torch.zeros(2)
    gradients = {}
    for name in REGRESSION:
        logits = torch.tensor([[0.5], [100.0]], requires_grad=True)
        plugins.load(losses.__name__, name).loss(logits, targets).backward()
        gradients[name] = logits.grad[:, 0].tolist()
    assert gradients["huber"] == pytest.approx([0.25, 0.5])
    assert gradients["mse"] == pytest.approx([0.5, 100.0])


@pytest.mark.parametrize("name", ALL)
def test_parts_divided_by_all_items_sum_to_one_large_batch(name):
    loss = plugins.load(losses.__name__, name).loss
    logits, targets = batch(name)
    weights = weights_of(name)
    whole = loss(logits, targets, label_weights=weights)
    for n_items in (targets.numel(), torch.tensor(targets.numel())):
        parts = [
            loss(logits[rows], targets[rows], label_weights=weights, n_items=n_items)
            for rows in (slice(0, 3), slice(3, 8))
        ]
        torch.testing.assert_close(parts[0] + parts[1], whole)
    means = [loss(logits[rows], targets[rows], label_weights=weights) for rows in (slice(0, 3), slice(3, 8))]
    assert not torch.isclose(means[0] / 2 + means[1] / 2, whole)


@pytest.mark.parametrize("name", ALL)
def test_half_precision_logits_are_summed_in_float32(name):
    logits, targets = batch(name, rows=4096)
    loss = plugins.load(losses.__name__, name).loss
    half = loss(logits.half() * 20, targets)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss(logits * 20, targets), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_gradient_lowers_the_loss(name):
    logits, targets = batch(name)
    logits.requires_grad_()
    loss = plugins.load(losses.__name__, name).loss
    value = loss(logits, targets, label_smoothing=0.1)
    value.backward()
    assert loss(logits.detach() - logits.grad, targets, label_smoothing=0.1) < value
