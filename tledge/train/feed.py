"""Batches on the device that trains, made ahead of time where they come from the host."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from tledge.batches import Columns
from tledge.train.order import Numbers

AHEAD = 3
"""Batches that are made while the device works on another."""

Batch = dict[str, Tensor]


def feed(
    columns: Columns, batches: Iterable[tuple[Numbers, int]], device: torch.device, *, ahead: bool
) -> Iterator[Batch]:
    """The finished batches on a device.

    Args:
        columns: what `on` gave for that device.
        batches: row numbers of each, and the seed of what is random in it.
        device: where they are needed.
        ahead: make batches in a thread while the device works.
    """

    def taken(numbers: Numbers, seed: int) -> Batch:
        batch = columns.take(torch.from_numpy(numbers), seed)
        if not ahead or device.type != "cuda":
            return batch
        return {name: each.pin_memory() if each.device.type == "cpu" else each for name, each in batch.items()}

    def finished(batch: Batch, seed: int) -> Batch:
        return columns.finish({name: each.to(device, non_blocking=True) for name, each in batch.items()}, seed)

    if not ahead:
        for numbers, seed in batches:
            yield finished(taken(numbers, seed), seed)
        return
    waiting: deque[tuple[Future[Batch], int]] = deque()
    with ThreadPoolExecutor(1) as pool:
        try:
            for numbers, seed in batches:
                waiting.append((pool.submit(taken, numbers, seed), seed))
                if len(waiting) > AHEAD:
                    future, its_seed = waiting.popleft()
                    yield finished(future.result(), its_seed)
            while waiting:
                future, its_seed = waiting.popleft()
                yield finished(future.result(), its_seed)
        finally:
            for future, _ in waiting:
                future.cancel()


def worth_ahead(columns: Columns, device: torch.device, workers: int | None) -> bool:
    """Whether batches are to be made ahead: where they come from the host to a GPU, or threads decode images."""
    if columns.decodes:
        return workers != 0
    if device.type == "cpu":
        return False
    return any(each.device.type == "cpu" for each in columns.take(torch.zeros(1, dtype=torch.int64), 0).values())
