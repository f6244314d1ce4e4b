import json
import math

import pytest
import torch
from torch import nn

from tledge import train
from tledge.batches import Columns
from tledge.errors import TrainError
from tledge.progress import silent
from tledge.recipe.schema import Finetune
from tledge.train import settings
from tledge.train.learning_rate import RateFinder, range_test


@pytest.fixture
def found(toys, tmp_path, monkeypatch):
    """`found(net, ...)` is the range test of a net on 64 points."""
    torch.set_num_threads(1)

    def run(net, *, rows=None, groups=None, base_rate=0.01, optimizer=torch.optim.SGD, seed=0, progress=silent):
        groups = groups or [{"params": list(net.parameters()), "lr": base_rate}]
        monkeypatch.setattr(settings, "optimizer", lambda _, __, groups: optimizer([dict(group) for group in groups]))
        return range_test(
            net,
            train.Sets(rows or toys.Points(64, 1), toys.Points(8, 2)),
            lambda outputs, labels, _: nn.functional.cross_entropy(outputs["logits"], labels),
            train.Plan("full", "", tmp_path, groups, 1, seed, base_rate),
            Finetune(batch_size=8, report_to=[]),
            progress=progress,
        )

    return run


def test_a_tenth_of_the_rate_with_the_lowest_loss_is_suggested(found, toys):
    finder = found(toys.Net(), seed=1)
    best = finder.rates[finder.losses.index(min(finder.losses))]
    assert finder.suggestion == pytest.approx(best / 10, rel=0.01)
    assert 1e-3 < finder.suggestion <= 0.1
    assert finder.rates[0] == pytest.approx(1e-7)
    assert len(finder.rates) == len(finder.losses) <= 40
    steps = {round(math.log(b / a), 6) for a, b in zip(finder.rates, finder.rates[1:], strict=False)}
    assert len(steps) == 1


def test_the_weights_buffers_and_random_state_are_put_back(found, toys):
    class Normed(toys.Net):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, points):
            return super().forward(self.norm(points))

    net = Normed()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    found(net)
    assert torch.equal(torch.rand(3), expected)
    after = net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None for p in net.parameters())


def test_it_is_put_back_when_it_is_interrupted(found, toys):
    net, fresh = toys.Net(), toys.Net()
    with pytest.raises(toys.Interrupted):
        found(net, progress=toys.interrupt_at(30))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(net.parameters(), fresh.parameters(), strict=True))


def test_the_same_seed_finds_the_same(found, toys):
    first, again, other = (found(toys.Net(), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.losses != other.losses


def test_it_ends_when_the_loss_explodes(found, toys):
    net = toys.Net(dropout_prob=0.0)
    finder = found(net, groups=[{"params": list(net.parameters()), "lr": 10.0}], base_rate=1e-3)
    assert len(finder.rates) < 40
    assert all(math.isfinite(loss) for loss in finder.losses)
    assert max(finder.losses[finder.losses.index(min(finder.losses)) :]) <= 4 * min(finder.losses)


def test_all_groups_keep_their_share_of_the_rate(found, toys):
    net = toys.Net()
    seen = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            seen.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    parameters = list(net.parameters())
    groups = [{"params": parameters[:2], "lr": 0.001}, {"params": parameters[2:], "lr": 0.01}]
    finder = found(net, groups=groups, base_rate=0.001, optimizer=Watched)
    assert [rates[0] for rates in seen[: len(finder.rates)]] == pytest.approx(finder.rates)
    assert all(rates[1] == pytest.approx(10 * rates[0]) for rates in seen)
    assert [group["lr"] for group in groups] == [0.001, 0.01]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_from_the_start_is_told(value, found, toys):
    class Lost(toys.Net):
        def forward(self, points):
            return {"logits": self.layers(points) * value}

    with pytest.raises(TrainError, match=r"^finetune\.learning_rate: auto found none, since the loss is no finite"):
        found(Lost())


def test_a_loss_that_never_falls_is_told(found, toys):
    class Stubborn(toys.Net):
        def forward(self, points):
            return {"logits": self.layers(points) * 0 + sum(p.square().sum() for p in self.parameters()) * 0}

    class Climbing(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.grad.neg_()
            return super().step(closure)

    with pytest.raises(TrainError, match=r"auto found none, since the loss fell at no rate from 1e-07 to .*; give a"):
        found(Stubborn())
    with pytest.raises(TrainError, match=r"auto found none, since the loss fell at no rate"):
        found(toys.Net(dropout_prob=0.0), optimizer=Climbing, rows=Same(toys.Points(8, 1)))


class Same(Columns):
    """The same batch at each step."""

    def __init__(self, points):
        self.points = points

    def __len__(self):
        return 8

    def take(self, rows, seed):
        return self.points.take(torch.arange(8), seed)


def test_training_uses_and_tells_what_was_found(fit, toys, tmp_path):
    net = toys.Net()
    parameters = list(net.parameters())
    groups = [{"params": parameters[:2], "lr": 1e-4}, {"params": parameters[2:], "lr": 1e-3}]
    fitted = fit(net, groups=groups, base_rate=1e-4, learning_rate="auto", epochs=6)
    finder = fitted.rate_finder
    assert isinstance(finder, RateFinder)
    assert [group["lr"] for group in groups] == pytest.approx([finder.suggestion, 10 * finder.suggestion])
    assert fitted.best_metric > 0.9
    assert json.loads((tmp_path / "run" / "learning_rate.json").read_text())["suggestion"] == finder.suggestion
    again = [{"params": parameters[:2], "lr": 1e-4}, {"params": parameters[2:], "lr": 1e-3}]
    assert fit(net, groups=again, base_rate=1e-4, learning_rate="auto", epochs=6) == fitted
    assert [group["lr"] for group in again] == pytest.approx([finder.suggestion, 10 * finder.suggestion])


def test_a_resumed_training_keeps_the_rate_and_ends_alike(fit, toys, tmp_path):
    def go(net, folder, **more):
        groups = [{"params": list(net.parameters()), "lr": 1e-3}]
        return fit(net, groups=groups, base_rate=1e-3, learning_rate="auto", folder=folder, **more)

    whole, parted = toys.Net(), toys.Net()
    expected = go(whole, "whole")
    with pytest.raises(toys.Interrupted):
        go(parted, "parted", progress=late(toys, 17))
    found = (tmp_path / "parted" / "learning_rate.json").read_bytes()
    resumed = go(toys.Net(seed=99), "parted")
    assert (tmp_path / "parted" / "learning_rate.json").read_bytes() == found
    assert (resumed.curve, resumed.rate_finder) == (expected.curve, expected.rate_finder)


def late(toys, step):
    """A progress that is silent in the range test and interrupts the training after it."""
    interrupting = toys.interrupt_at(step)
    return lambda description, total: (
        silent(description, total) if description.startswith("Learning rate") else interrupting(description, total)
    )
