"""Train the upper blocks of a backbone on cached activations of the frozen ones below.

The blocks under the boundary are swapped for stand-ins: the last of them returns the cached activations, the others
return what they are given. The list keeps its length, so that a backbone which looks at a block's position finds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from tledge.model.classifier import TextClassifier
from tledge.model.freeze import block_list


class _Reached(Exception):  # noqa: N818 - a signal, not an error
    """The activations at the boundary are known; the rest of the pass is not needed."""


class _StandIn(nn.Module):
    """Takes a frozen block's place and returns given activations, or its own input."""

    def __init__(self, replaced: nn.Module, *, returns_tuple: bool) -> None:
        super().__init__()
        object.__setattr__(self, "_replaced", replaced)  # unregistered: its weights are not this module's
        self.returns_tuple = returns_tuple
        self.activations: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_replaced"], name)

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        result = hidden if self.activations is None else self.activations
        return (result,) if self.returns_tuple else result


class AboveBoundary(nn.Module):
    """What is above the freeze boundary of a classifier, run on cached activations.

    `forward` takes `activations`, `(batch, sequence, hidden)` (what block `boundary - 1` gave), beside the classifier's
    own inputs, and gives `{"logits": (batch, labels)}`.
    """

    def __init__(self, model: TextClassifier, boundary: int) -> None:
        super().__init__()
        self.model = model
        _, blocks = block_list(model.backbone)
        frozen = list(blocks[:boundary])
        returns_tuple = _returns_tuple(model, frozen[-1])
        stand_ins = [_StandIn(block, returns_tuple=returns_tuple) for block in frozen]
        for i, stand_in in enumerate(stand_ins):
            blocks[i] = stand_in
        # Kept in tuples, so that they are not registered a second time and stored twice.
        self._places = (blocks, frozen)
        self._last = (stand_ins[-1],)

    def forward(self, activations: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        """Logits from cached activations."""
        self._last[0].activations = activations
        try:
            return self.model(**inputs)
        finally:
            self._last[0].activations = None

    def restore(self) -> None:
        """Put the frozen blocks back into the classifier."""
        blocks, frozen = self._places
        for i, block in enumerate(frozen):
            blocks[i] = block


def activations(model: TextClassifier, boundary: int, inputs: dict[str, Tensor]) -> Tensor:
    """What block `boundary - 1` gives for these inputs, `(batch, sequence, hidden)`; the blocks above are not run."""
    _, blocks = block_list(model.backbone)
    with _stop_after(blocks[boundary - 1]) as caught, suppress(_Reached):
        model.features(**inputs)
    return caught[0]


def trains_below(model: TextClassifier, boundary: int) -> bool:
    """Whether something that trains takes part in what the blocks below the boundary give, so that caching it is wrong.

    MPNet's position bias is such a thing: it is kept behind the blocks, and all of them use it.
    """
    ones = torch.ones((2, 4), dtype=torch.int64, device=next(model.parameters()).device)
    with torch.enable_grad():
        return activations(model, boundary, {"input_ids": ones, "attention_mask": ones}).requires_grad


@contextmanager
def _stop_after(block: nn.Module) -> Iterator[list[Tensor]]:
    caught: list[Tensor] = []

    def catch(_module: nn.Module, _inputs: Any, output: Any) -> None:
        caught.append(output[0] if isinstance(output, tuple) else output)
        raise _Reached

    handle = block.register_forward_hook(catch)
    try:
        yield caught
    finally:
        handle.remove()


def _returns_tuple(model: TextClassifier, block: nn.Module) -> bool:
    seen: list[bool] = []
    handle = block.register_forward_hook(lambda _m, _i, output: seen.append(isinstance(output, tuple)))
    device = next(model.parameters()).device
    ones = torch.ones((2, 4), dtype=torch.int64, device=device)
    try:
        with torch.inference_mode():
            model.features(ones, ones)
    finally:
        handle.remove()
    return seen[0]
