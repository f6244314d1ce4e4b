"""Forward and backward passes of training steps as CUDA graphs: Python's own time is spent once for each shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

Batch = dict[str, Tensor]
Step = Callable[[Batch, int], Tensor]
"""A batch and its number of labels to the loss, whose gradients were added to those of the parameters."""

WARM_UP = 3
"""Batches of a shape that run step by step before it is captured."""
MOST = 64
"""Shapes that are captured."""
TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2, "fp16": 2e-2}
"""By how much the loss of a captured step may differ from the same one run step by step, relatively."""


@dataclass(frozen=True, slots=True)
class _Graph:
    graph: torch.cuda.CUDAGraph
    batch: Batch
    loss: Tensor


class Captured:
    """Runs a step, from a CUDA graph where its shape has occurred often enough.

    The first replay of each shape is compared with the step itself, on the same batch with the same random numbers.
    Where a step cannot be captured, or differs, all go on as they are, and `note` says why.
    """

    def __init__(self, step: Step, parameters: Iterable[Tensor], precision: str) -> None:
        self._step, self._parameters, self._tolerance = step, list(parameters), TOLERANCE[precision]
        self._graphs: dict[object, _Graph] = {}
        self._seen: Counter[object] = Counter()
        self._pool = torch.cuda.graph_pool_handle()
        self._failure = ""

    @property
    def note(self) -> str:
        """What came of it, for the report."""
        if self._failure:
            return f"steps run one kernel at a time, since they could not be captured: {self._failure}"
        return f"steps of {len(self._graphs)} shapes run as CUDA graphs" if self._graphs else ""

    def __call__(self, batch: Batch, n_items: int) -> Tensor:
        """The loss, `()`; gradients are added to those of the parameters."""
        key = (n_items, *((name, each.shape, each.dtype) for name, each in batch.items()))
        found = self._graphs.get(key)
        if found is None:
            self._seen[key] += 1
            if self._failure or self._seen[key] <= WARM_UP or len(self._graphs) >= MOST:
                return self._step(batch, n_items)
            return self._first(key, batch, n_items)
        for name, each in batch.items():
            found.batch[name].copy_(each)
        found.graph.replay()
        return found.loss

    def _first(self, key: object, batch: Batch, n_items: int) -> Tensor:
        before, state = self._gradients(), torch.cuda.get_rng_state()
        expected = self._step(batch, n_items).clone()
        norm = self._norm()
        after = torch.cuda.get_rng_state()
        stepped = self._gradients()
        self._set(before)
        try:
            found = self._capture(batch, n_items)
            torch.cuda.set_rng_state(state)
            found.graph.replay()
            differs = _apart(found.loss, expected), _apart(self._norm(), norm)
        except RuntimeError as error:
            self._failure = str(error).strip().partition("\n")[0]
        else:
            if max(differs) <= self._tolerance:
                self._graphs[key] = found
                return found.loss
            self._failure = f"the loss or its gradients differ by {max(differs):.2g} of their size"
        torch.cuda.synchronize()
        self._set(stepped)
        torch.cuda.set_rng_state(after)
        return expected

    def _capture(self, batch: Batch, n_items: int) -> _Graph:
        static = {name: each.clone() for name, each in batch.items()}
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        # Threads that make batches ahead go on meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            loss = self._step(static, n_items)
        return _Graph(graph, static, loss)

    def _gradients(self) -> list[Tensor | None]:
        return [None if each.grad is None else each.grad.clone() for each in self._parameters]

    def _set(self, gradients: list[Tensor | None]) -> None:
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            if parameter.grad is not None and gradient is not None:
                parameter.grad.copy_(gradient)

    def _norm(self) -> Tensor:
        return torch.nn.utils.get_total_norm([each.grad for each in self._parameters if each.grad is not None])


def _apart(ours: Tensor, theirs: Tensor) -> float:
    return float(((ours - theirs).abs() / theirs.abs().clamp(min=1e-6)).item())
