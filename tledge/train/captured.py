"""Training steps as CUDA graphs: Python's own time is spent once for each shape, not for every kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Batch = dict[str, Tensor]
Step = Callable[[Batch, int, bool, bool], Tensor]
"""A batch, its number of labels, and whether it is the first and the last one of an optimizer step, to the loss.

The first one forgets the gradients from before, and with the last one the optimizer moves the weights.
"""

WARM_UP = 1
"""Batches of a shape that run kernel by kernel before it is captured."""
MOST = 64
"""Shapes that are captured."""
TRIES = 3
"""How often a shape is captured whose first replay differs: transformers runs another attention where no text of a
batch is padded, but not in a graph."""
TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2, "fp16": 2e-2}
"""By how much the loss of a captured step may differ from the same one run kernel by kernel, relatively."""


@dataclass(frozen=True, slots=True)
class _Graph:
    graph: torch.cuda.CUDAGraph
    batch: Batch
    loss: Tensor


def can_capture(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer can move weights inside a CUDA graph."""
    return all("capturable" in group for group in optimizer.param_groups)


def set_capturable(optimizer: torch.optim.Optimizer, on: bool) -> None:
    """Make such an optimizer ready for CUDA graphs, with learning rates on the device, or for plain steps."""
    for group in optimizer.param_groups:
        group["capturable"] = on
        device = group["params"][0].device
        group["lr"] = torch.tensor(float(group["lr"]), device=device) if on else float(group["lr"])
    for parameter, kept in optimizer.state.items():
        if on and "step" in kept:
            kept["step"] = kept["step"].to(parameter.device)


class Captured:
    """Runs steps, from a CUDA graph where their shape has occurred often enough.

    The first replay of each shape is compared with the step itself, on the same batch with the same random numbers.
    A shape whose replays differ goes on as it is; where a step cannot be captured at all, all do. `note` says so.
    """

    def __init__(self, step: Step, module: nn.Module, optimizer: torch.optim.Optimizer, precision: str) -> None:
        self._step, self._module, self._optimizer = step, module, optimizer
        self._tolerance = TOLERANCE[precision]
        self._graphs: dict[object, _Graph] = {}
        self._seen: Counter[object] = Counter()
        self._pool = torch.cuda.graph_pool_handle()
        self._failure = ""
        self._differed: Counter[object] = Counter()
        self._furthest = 0.0

    @property
    def note(self) -> str:
        """What came of it, for the report."""
        if self._failure:
            return f"steps run one kernel at a time, since they could not be captured: {self._failure}"
        told = [f"steps of {len(self._graphs)} shapes run as CUDA graphs"] if self._graphs else []
        if given_up := sum(times >= TRIES for times in self._differed.values()):
            told.append(
                f"steps of {given_up} shapes run one kernel at a time, since the loss or the gradients of their graphs "
                f"differ by up to {self._furthest:.2g} of their size"
            )
        return "; ".join(told)

    def __call__(self, batch: Batch, n_items: int, first: bool, last: bool) -> Tensor:
        """The loss, `()`, of a step that is done."""
        key = (n_items, first, last, *((name, each.shape, each.dtype) for name, each in batch.items()))
        found = self._graphs.get(key)
        if found is None:
            self._seen[key] += 1
            past = self._failure or self._differed[key] >= TRIES or len(self._graphs) >= MOST
            if past or self._seen[key] <= WARM_UP:
                return self._step(batch, n_items, first, last)
            return self._first(key, batch, n_items, first, last)
        for name, each in batch.items():
            found.batch[name].copy_(each)
        found.graph.replay()
        return found.loss

    def _first(self, key: object, batch: Batch, n_items: int, first: bool, last: bool) -> Tensor:
        tensors = self._changing()
        before, state = [each.clone() for each in tensors], torch.cuda.get_rng_state()
        expected = self._step(batch, n_items, first, last).clone()
        gradients = [each.clone() for each in self._gradients()]
        stepped, after = [each.clone() for each in tensors], torch.cuda.get_rng_state()
        _put(tensors, before)
        try:
            found = self._capture(batch, n_items, first, last)
            torch.cuda.set_rng_state(state)
            found.graph.replay()
            differs = _apart([found.loss], [expected]), _apart(self._gradients(), gradients)
        except RuntimeError as error:
            self._failure = str(error).strip().partition("\n")[0]
            self._graphs.clear()
        else:
            if max(differs) <= self._tolerance:
                self._graphs[key] = found
                return found.loss
            self._differed[key] += 1
            self._furthest = max(self._furthest, *differs)
        torch.cuda.synchronize()
        _put(tensors, stepped)
        torch.cuda.set_rng_state(after)
        return expected

    def _capture(self, batch: Batch, n_items: int, first: bool, last: bool) -> _Graph:
        static = {name: each.clone() for name, each in batch.items()}
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        # Threads that make batches ahead go on meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            loss = self._step(static, n_items, first, last)
        return _Graph(graph, static, loss)

    def _changing(self) -> list[Tensor]:
        """All that a step changes in place: weights and their gradients, buffers, and the optimizer's own."""
        trained = [each.detach() for each in self._module.parameters() if each.requires_grad]
        moments = [each for kept in self._optimizer.state.values() for each in kept.values() if torch.is_tensor(each)]
        return [*trained, *self._gradients(), *self._module.buffers(), *moments]

    def _gradients(self) -> list[Tensor]:
        return [each.grad for each in self._module.parameters() if each.grad is not None]


def _put(tensors: list[Tensor], values: list[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


def _apart(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """How large the difference of all values is, by the size of theirs."""
    size = nn.utils.get_total_norm(theirs).clamp(min=1e-6)
    differences = [mine - their for mine, their in zip(ours, theirs, strict=True)]
    return float(nn.utils.get_total_norm(differences) / size)
