"""Captured steps with a stand-in for CUDA graphs, which there are none of on a CPU: a replay is the step once more."""

import re
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from tledge.train import captured


@pytest.fixture
def run(toys, monkeypatch):
    """`run(capture)` trains a net for some steps with captured steps, and gives it with its `Captured`."""
    for name in ("graph_pool_handle", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "get_rng_state", torch.get_rng_state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", torch.set_rng_state)

    def go(change=None, dropout_prob=0.2, sizes=(8, 8, 4) * 8):
        net = toys.Net(dropout_prob=dropout_prob)
        rows = toys.Points(64, 1)
        calls = []

        def step(batch, n_items, first, last):
            calls.append(len(batch["labels"]))
            assert first and last
            optimizer.zero_grad(set_to_none=False)
            loss = F.cross_entropy(net(batch["points"])["logits"], batch["labels"], reduction="sum") / n_items
            loss.backward()
            optimizer.step()
            return loss.detach()

        def capture(self, batch, n_items, first, last):
            static = {name: each.clone() for name, each in batch.items()}
            loss = torch.zeros(())

            def replay():
                before = len(calls)
                loss.copy_(step(static, n_items, first, last) * (1 if change is None else change(len(calls))))
                del calls[before:]

            if change == "refuse":
                raise RuntimeError("operation not permitted when stream is capturing\nmore")
            return captured._Graph(SimpleNamespace(replay=replay), static, loss)

        monkeypatch.setattr(captured.Captured, "_capture", capture)
        optimizer = torch.optim.AdamW(net.parameters(), 0.01)
        steps = captured.Captured(step, net, optimizer, "fp32")
        torch.manual_seed(0)
        losses = []
        for i, size in enumerate(sizes):
            losses.append(float(steps(rows.batch(torch.arange(size) + i), size, True, True)))
        return net, steps, losses, calls

    return go


def test_captured_steps_give_what_steps_give(run, monkeypatch):
    net, steps, losses, calls = run()
    assert steps.note == "steps of 2 shapes run as CUDA graphs"
    assert len(calls) == 4  # the first of each shape, and the one that the first replay is compared with
    monkeypatch.setattr(captured, "WARM_UP", 100)
    plain, nothing, expected, _ = run()
    assert nothing.note == ""
    assert losses == pytest.approx(expected)
    for ours, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("refuse", r"captured: operation not permitted when stream is capturing$"),
        (lambda _: 1.5, r"^steps of 2 shapes run one kernel at a time, .* differ by up to 0\.5 of"),
    ],
)
def test_a_step_that_cannot_be_captured_or_differs_runs_as_it_is(change, why, run, monkeypatch):
    net, steps, losses, calls = run(change)
    assert len(calls) == 24
    assert re.search(why, steps.note)
    monkeypatch.setattr(captured, "WARM_UP", 100)
    plain, _, expected, _ = run()
    assert losses == expected
    for ours, theirs in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_shape_that_differed_once_is_captured_from_another_batch(run):
    _, steps, _, calls = run(lambda number: 1.5 if number == 3 else 1.0)
    assert steps.note == "steps of 2 shapes run as CUDA graphs"
    assert len(calls) == 5  # one more than where the first replay of each shape agrees
