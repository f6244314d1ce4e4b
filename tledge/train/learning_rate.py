"""`learning_rate: auto`: the range test of Smith (2017), which tries rising rates and puts the weights back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

import torch
from torch import nn

from tledge.batches import Columns
from tledge.errors import TrainError
from tledge.precision import autocast, resolved, training_device
from tledge.progress import Progress
from tledge.recipe.schema import Training
from tledge.train import settings as names
from tledge.train.feed import Batch, feed
from tledge.train.mix import Mixed
from tledge.train.objective import Objective
from tledge.train.order import Numbers, epoch_order
from tledge.train.plan import Plan, Sets

LOWEST, HIGHEST = 1e-7, 1.0
STEPS = 100
FEWEST_STEPS = 40
PASSES = 3  # over the training rows, where they are few
SMOOTHING = 0.8
EXPLODED = 4.0
PART = 0.1
LEAST_FALL = 0.01


@dataclass(frozen=True, slots=True)
class RateFinder:
    """A range test: the rates that were tried, the smoothed training loss at each, and a tenth of the best of them."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float


def range_test(
    module: nn.Module,
    sets: Sets,
    objective: Objective,
    plan: Plan,
    settings: Training,
    *,
    progress: Progress,
    section: str = "finetune",
) -> RateFinder:
    """The learning rate to train with: a tenth of the one at which the smoothed loss is lowest.

    The rate rises exponentially from 1e-7 to 1, batch by batch, for 100 batches or fewer, and the test ends when the
    loss is four times the lowest. The weights, the buffers and the random state are afterwards what they were.

    Args:
        module: as for `fit`; it is left on the device that trains.
        sets: as for `fit`; those that train are tried.
        objective: as for `fit`.
        plan: as for `fit`; all rates of its groups are scaled by the same factor, and `base_rate` is the one that a
            factor of one stands for. Rates of the result are in its scale.
        settings: the recipe's section about this training.
        progress: shown by batches.
        section: its name, for messages.

    Raises:
        TrainError: the loss is no finite number from the start, or no rate makes it fall.
    """
    assert plan.base_rate is not None
    device = training_device()
    rows = (sets.train if sets.mix is None else Mixed(sets.train, sets.mix)).on(device)
    per_epoch = -(-len(rows) // settings.batch_size)
    n_steps = min(STEPS, max(FEWEST_STEPS, PASSES * per_epoch))
    rates = [LOWEST * (HIGHEST / LOWEST) ** (i / (n_steps - 1)) for i in range(n_steps)]
    module.to(device)
    tried = progress(f"Learning rate ({plan.phase})", total=n_steps)
    with _put_back(module, device, plan.seed), tried as advance:
        optimizer = names.optimizer(settings, section, plan.groups)
        shares = [group["lr"] / plan.base_rate for group in plan.groups]
        module.train()
        losses: list[float] = []
        average = 0.0
        batches = feed(rows, _endless(rows, settings.batch_size, plan.seed), device, ahead=False)
        for i, (rate, batch) in enumerate(zip(rates, batches, strict=False), start=1):
            for group, share in zip(optimizer.param_groups, shares, strict=True):
                group["lr"] = rate * share
            value = _step(module, batch, objective, optimizer, settings, device)
            advance(1)
            average = SMOOTHING * average + (1 - SMOOTHING) * value
            smooth = average / (1 - SMOOTHING**i)
            if not math.isfinite(smooth) or (losses and smooth > EXPLODED * min(losses)):
                break
            losses.append(smooth)
        optimizer.zero_grad(set_to_none=True)
    return _suggest(rates[: len(losses)], losses, section)


def _suggest(rates: list[float], losses: list[float], section: str) -> RateFinder:
    if not losses:
        raise TrainError(
            f"{section}.learning_rate: auto found none, since the loss is no finite number even at {LOWEST:g}; "
            "use precision bf16 or fp32, and look for extreme values in the rows"
        )
    # At the first quarter of the rates next to nothing is learnt: there the loss wavers as the batches do, most of all
    # before its average has settled.
    quarter = max(1, len(losses) // 4)
    best = min(range(quarter, len(losses)), key=lambda i: losses[i], default=0)
    if losses[best] > (1 - LEAST_FALL) * sum(losses[:quarter]) / quarter:
        raise TrainError(
            f"{section}.learning_rate: auto found none, since the loss fell at no rate from {LOWEST:g} to "
            f"{rates[-1]:.2g}; give a number, such as 1e-4"
        )
    return RateFinder(tuple(rates), tuple(losses), float(f"{PART * rates[best]:.3g}"))


def _step(
    module: nn.Module,
    batch: Batch,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    settings: Training,
    device: torch.device,
) -> float:
    inputs = {name: each for name, each in batch.items() if name != "labels"}
    precision = resolved(settings.precision, device)
    with autocast("fp32" if precision == "fp16" else precision, device):
        loss = objective(module(**inputs), batch["labels"], None)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(module.parameters(), settings.max_grad_norm)
    optimizer.step()
    return loss.item()


def _endless(rows: Columns, batch_size: int, seed: int) -> Iterator[tuple[Numbers, int]]:
    """The row numbers of batches, epoch after epoch, and the seed of each."""
    for epoch in count():
        for i, batch in enumerate(epoch_order(len(rows), rows.lengths, batch_size, seed=seed, epoch=epoch)):
            yield batch, seed + i


@contextmanager
def _put_back(module: nn.Module, device: torch.device, random_seed: int) -> Iterator[None]:
    """Seed torch, and restore what trains, the buffers and torch's random state when the block ends."""
    changing = [*(p for p in module.parameters() if p.requires_grad), *module.buffers()]
    before = [tensor.detach().clone() for tensor in changing]
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []):
        torch.manual_seed(random_seed)
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, value in zip(changing, before, strict=True):
                    tensor.copy_(value)
