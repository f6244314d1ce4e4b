"""Train the upper blocks of a backbone on cached activations of the frozen ones below.

The frozen blocks are swapped for stand-ins: the last of them returns the cached activations. The others return what
they are given (texts, whose blocks follow one another in a list), or empty tensors of the shape that they gave before
(images, whose blocks may stand anywhere), so that what runs between them finds what it expects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from tledge.errors import ModelError
from tledge.model.blocks import block_list, tensors
from tledge.model.last_layer import replace
from tledge.model.protocol import Classifier

ROWS = 3
"""Of made-up inputs, on which a boundary is tried."""


class _Reached(Exception):  # noqa: N818 - a signal, not an error
    """The activations at the boundary are known; the rest of the pass is not needed."""


class StandIn(nn.Module):
    """Takes a frozen module's place and gives what `answer` makes of its first argument and the activations."""

    def __init__(self, replaced: nn.Module, answer: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        object.__setattr__(self, "_replaced", replaced)  # unregistered: its weights are not this module's
        self.answer = answer
        self.activations = torch.empty(0)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_replaced"], name)

    def forward(self, hidden: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        return self.answer(hidden, self.activations)


class AboveBoundary(nn.Module):
    """What is above the freeze boundary of a classifier, run on cached activations.

    `forward` takes `activations`, what block `boundary - 1` gave (`(batch, sequence, hidden)` of texts, `(batch,
    channels, height, width)` of most images), and for texts the classifier's own inputs too. It gives what the
    classifier's forward gives.
    """

    def __init__(self, model: Classifier, boundary: int) -> None:
        super().__init__()
        self.model: Any = model
        stand_ins = model.stand_ins(boundary)
        # Kept in tuples, so that they are not registered a second time and stored twice.
        self._places = tuple((name, stand_in.__dict__["_replaced"]) for name, stand_in in stand_ins)
        self._stand_ins = tuple(stand_in for _, stand_in in stand_ins)
        for name, stand_in in stand_ins:
            replace(model.backbone, name, stand_in)

    def forward(self, activations: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        """Logits from cached activations."""
        inputs |= self.model.above(activations)
        for stand_in in self._stand_ins:
            stand_in.activations = activations
        try:
            result: dict[str, Tensor] = self.model(**inputs)
            return result
        finally:
            for stand_in in self._stand_ins:
                stand_in.activations = torch.empty(0)

    def restore(self) -> None:
        """Put the frozen blocks back into the classifier."""
        for name, replaced in self._places:
            replace(self.model.backbone, name, replaced)


def activations(model: Classifier, boundary: int, inputs: Mapping[str, Tensor]) -> Tensor:
    """What block `boundary - 1` gives for these inputs, the batch first; the blocks above are not run."""
    with _stop_after(model.blocks()[boundary - 1].modules[-1]) as caught, suppress(_Reached):
        model.features(**inputs)
    return caught[0]


def trains_below(model: Classifier, boundary: int) -> bool:
    """Whether something that trains takes part in what the blocks below the boundary give, so that caching it is wrong.

    MPNet's position bias is such a thing: it is kept behind the blocks, and all of them use it.
    """
    with torch.enable_grad():
        return activations(model, boundary, model.example(ROWS)).requires_grad


def cuttable(model: Classifier, boundary: int) -> bool:
    """Whether what is above the boundary gives the same features from activations as the whole model from its inputs.

    It is tried on noise, in eval mode. It does not where something passes by the boundary, such as a skip connection
    that begins below and ends above it.
    """
    inputs = model.example(ROWS)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            expected = model.features(**inputs)
            between = activations(model, boundary, inputs)
            above = AboveBoundary(model, boundary)
            try:
                got = above(between, **(inputs | model.above(between)))["logits"]
            finally:
                above.restore()
            wanted = model.head(expected)
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, IndexError, ModelError):
        return False
    finally:
        model.train(was_training)
    spread = float((wanted - wanted.mean(dim=0)).abs().max())
    return bool(got.shape == wanted.shape and (got - wanted).abs().max() <= 1e-3 * spread and spread > 0)


def in_a_list(model: Classifier, boundary: int) -> list[tuple[str, StandIn]]:
    """Stand-ins of blocks that follow one another in a list, as those of transformers of texts do."""
    list_name, layers = block_list(model.backbone)
    returns_tuple = _returns_tuple(model, layers[boundary - 1])
    pass_on = lambda hidden, _: (hidden,) if returns_tuple else hidden  # noqa: E731
    give = lambda _, activations: (activations,) if returns_tuple else activations  # noqa: E731
    return [
        (f"{list_name}.{i}", StandIn(layer, give if i == boundary - 1 else pass_on))
        for i, layer in enumerate(layers[:boundary])
    ]


def anywhere(model: Classifier, boundary: int) -> list[tuple[str, StandIn]]:
    """Stand-ins of blocks that may stand anywhere, for inputs of one size."""
    names = {module: name for name, module in model.backbone.named_modules()}
    frozen = [module for block in model.blocks()[:boundary] for module in block.modules]
    gave: dict[nn.Module, Any] = {}
    handles = [
        module.register_forward_hook(lambda m, _inputs, output: gave.__setitem__(m, output)) for module in frozen
    ]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval().features(**model.example(1))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return [
        (names[module], StandIn(module, _answer(gave[module], last=module is frozen[-1])))
        for module in dict.fromkeys(frozen)
    ]


def _answer(example: Any, *, last: bool) -> Callable[[Any, Tensor], Any]:
    """The activations, or empty tensors of a batch of their size, in the form of an example of one row."""
    if isinstance(example, Tensor):
        shape = example.shape[1:]
        if last:
            return lambda _, activations: activations
        return lambda _, activations: activations.new_zeros(1).expand(len(activations), *shape)
    if type(example) is tuple:
        first, *rest = (_answer(each, last=last and i == 0) for i, each in enumerate(example))
        return lambda hidden, activations: tuple(each(hidden, activations) for each in (first, *rest))
    return lambda _hidden, _activations: example


@contextmanager
def _stop_after(block: nn.Module) -> Iterator[list[Tensor]]:
    caught: list[Tensor] = []

    def catch(_module: nn.Module, _inputs: Any, output: Any) -> None:
        caught.append(next(tensors(output)))
        raise _Reached

    handle = block.register_forward_hook(catch)
    try:
        yield caught
    finally:
        handle.remove()


def _returns_tuple(model: Classifier, block: nn.Module) -> bool:
    seen: list[bool] = []
    handle = block.register_forward_hook(lambda _m, _i, output: seen.append(isinstance(output, tuple)))
    try:
        with torch.no_grad():
            model.features(**model.example(1))
    finally:
        handle.remove()
    return seen[0]
