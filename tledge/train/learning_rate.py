"""`learning_rate: auto`: the range test of Smith (2017), which tries rising rates and puts the weights back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tledge.errors import TrainError
from tledge.progress import Progress
from tledge.train.arguments import ready
from tledge.train.objective import Objective

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
    train: Dataset[Any],
    objective: Objective,
    make_optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
    groups: list[dict[str, Any]],
    *,
    base_rate: float,
    batch_size: int,
    workers: int,
    max_grad_norm: float,
    bf16: bool,
    random_seed: int,
    device: torch.device,
    progress: Progress,
    description: str,
    section: str = "finetune",
) -> RateFinder:
    """The learning rate to train with: a tenth of the one at which the smoothed loss is lowest.

    The rate rises exponentially from 1e-7 to 1, batch by batch, for 100 batches or fewer, and the test ends when the
    loss is four times the lowest. The weights, the buffers and the random state are afterwards what they were.

    Args:
        module: as for `fit`.
        train: as for `fit`.
        objective: as for `fit`.
        make_optimizer: copies of parameter groups to the optimizer that is used for training too.
        groups: parameter groups; all their rates are scaled by the same factor.
        base_rate: the rate that a factor of one stands for; rates of the result are in its scale.
        batch_size: rows of a step.
        workers: processes that prepare batches.
        max_grad_norm: gradients are scaled down to this norm.
        bf16: whether steps run in mixed precision.
        random_seed: of the row order and of what is random in the module.
        device: where it runs; the module is left there.
        progress: shown by batches.
        description: what the progress bar says.
        section: the recipe's section that the rate is for, for messages.

    Raises:
        TrainError: the loss is no finite number from the start, or no rate makes it fall.
    """
    order = torch.Generator().manual_seed(random_seed)
    loader: DataLoader[Any] = DataLoader(
        train, batch_size, shuffle=True, generator=order, collate_fn=ready, num_workers=workers
    )
    n_steps = min(STEPS, max(FEWEST_STEPS, PASSES * len(loader)))
    rates = [LOWEST * (HIGHEST / LOWEST) ** (i / (n_steps - 1)) for i in range(n_steps)]
    module.to(device)
    with _put_back(module, device, random_seed), progress(description, total=n_steps) as advance:
        optimizer = make_optimizer(groups)
        shares = [group["lr"] / base_rate for group in groups]
        module.train()
        losses: list[float] = []
        average = 0.0
        for i, (rate, batch) in enumerate(zip(rates, _endless(loader), strict=False), start=1):
            for group, share in zip(optimizer.param_groups, shares, strict=True):
                group["lr"] = rate * share
            value = _step(module, batch, objective, optimizer, max_grad_norm, bf16, device)
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
    batch: dict[str, Tensor],
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    max_grad_norm: float,
    bf16: bool,
    device: torch.device,
) -> float:
    inputs = {name: tensor.to(device) for name, tensor in batch.items()}
    labels = inputs.pop("labels")
    with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
        loss = objective(module(**inputs), labels, None)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(module.parameters(), max_grad_norm)
    optimizer.step()
    return loss.item()


def _endless(loader: DataLoader[Any]) -> Iterator[dict[str, Tensor]]:
    while True:
        yield from loader


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
