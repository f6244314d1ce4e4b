"""The last layer of a pretrained classifier: found by running it once, and taken off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tledge.errors import ModelError


@dataclass(frozen=True, slots=True)
class LastLayer:
    """Where a classifier ends.

    `name` is the layer that gave its classes, `n_classes` how many, and `n_features` the width of what it took.
    `second` is the branch that classifies on the way, in training only (Inception's `AuxLogits`), and `dropped` names
    all that depends on the classes, whose old weights are of no use: the layer, and such branches. `too_small` is the
    branch that was taken off since it cannot work on images of this size.
    """

    name: str
    n_features: int
    n_classes: int
    second: str | None
    dropped: tuple[str, ...]
    too_small: str | None = None


def take_off(module: nn.Module, sample: Tensor) -> LastLayer:
    """Replace the last layer of a classifier by nothing, so that it gives features, and tell where that was.

    The last layer is the last linear one, or 1 x 1 convolution, that ran and has as many outputs as the classifier.
    A dropout right before it goes too, since the new head has its own. A second classifier keeps its last layer, for
    `replace` to exchange; of several the one nearest to the output is kept.

    SqueezeNet classifies each place with a convolution, then ReLU and mean; without the convolution it gives the mean
    of its features, and a linear layer on that is the same map but for the ReLU, which logits do not need.

    Args:
        module: in eval mode; changed in place.
        sample: `(batch, 3, height, width) float32`.

    Raises:
        ModelError: there is no such layer, or the classifier computes with what it gives.
    """
    ran, output = _run(module, sample)
    n_classes = output.shape[1] if output.ndim == 2 else 0
    ends = [name for name, layer in ran if n_classes in _outputs(layer)]
    if not ends:
        raise ModelError(
            f"model.backbone: no last layer was found in {type(module).__name__}: expected an image classifier that "
            f"ends in a linear layer or a 1 x 1 convolution, and its output is {tuple(output.shape)}"
        )
    widths = {name: _inputs(module.get_submodule(name)) for name in ends}
    branches = _branches(module, {name for name, _ in ran}, n_classes)
    for name in branches[:-1]:
        replace(module, name, None)
    for names in (ends[-1:], ends):  # distilled transformers take the mean of two heads
        kept = {name: module.get_submodule(name) for name in names}
        for name in names:
            replace(module, name, nn.Identity())
        if _gives(module, sample, widths[names[-1]]):
            _without_dropout(module, ran, names[-1])
            second = branches[-1] if branches else None
            if second is not None and not _runs_in_training(module, sample):
                replace(module, second, None)
                return LastLayer(names[-1], widths[names[-1]], n_classes, None, (*names, *branches), second)
            return LastLayer(names[-1], widths[names[-1]], n_classes, second, (*names, *branches))
        for name, layer in kept.items():
            replace(module, name, layer)
    raise ModelError(
        f"model.backbone: {type(module).__name__} computes with the outputs of its last layer {ends[-1]!r}, "
        "so that it cannot be exchanged for another"
    )


def replace(module: nn.Module, name: str, by: nn.Module | None) -> None:
    """Put a module, or `None`, in the place of that name."""
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, by)


def last_linear(module: nn.Module, n_classes: int) -> str:
    """The name of the last linear layer in a module that has so many outputs."""
    return [name for name, layer in module.named_modules() if _outputs(layer) == {n_classes}][-1]


def logits(output: Any) -> Tensor:
    """The first output of a classifier of torchvision, timm or transformers, whatever it is wrapped in."""
    found = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(found, Tensor):
        raise ModelError(f"model.backbone: expected an image classifier that gives logits, got {type(output).__name__}")
    return found


def _run(module: nn.Module, sample: Tensor) -> tuple[list[tuple[str, nn.Module]], Tensor]:
    """The leaf modules in the order in which they ran, with their names, and the output."""
    ran: list[tuple[str, nn.Module]] = []
    handles = [
        leaf.register_forward_hook(lambda _m, _i, _o, name=name, leaf=leaf: ran.append((name, leaf)))
        for name, leaf in module.named_modules()
        if not any(True for _ in leaf.children())
    ]
    try:
        with torch.no_grad():
            output = logits(module(sample))
    finally:
        for handle in handles:
            handle.remove()
    return ran, output


def _gives(module: nn.Module, sample: Tensor, width: int) -> bool:
    try:
        with torch.no_grad():
            return tuple(logits(module(sample)).shape) == (len(sample), width)
    except RuntimeError:
        return False


def _runs_in_training(module: nn.Module, sample: Tensor) -> bool:
    try:
        with torch.no_grad(), root_in_training(module):
            module(sample)
    except RuntimeError:
        return False
    return True


def _outputs(layer: nn.Module) -> set[int]:
    if isinstance(layer, nn.Linear):
        return {layer.out_features}
    return {layer.out_channels} if isinstance(layer, nn.Conv2d) and set(layer.kernel_size) == {1} else set()


def _inputs(layer: nn.Module) -> int:
    return layer.in_features if isinstance(layer, nn.Linear) else int(layer.in_channels)  # type: ignore[arg-type]


def _without_dropout(module: nn.Module, ran: list[tuple[str, nn.Module]], last: str) -> None:
    names = [name for name, _ in ran]
    for name, layer in reversed(ran[: names.index(last)]):
        if any(True for _ in layer.parameters()):
            return
        if isinstance(layer, nn.Dropout):
            replace(module, name, nn.Identity())


def _branches(module: nn.Module, ran: set[str], n_classes: int) -> list[str]:
    """The children that only run in training and end in the same classes, in order."""
    found = []
    for name, child in module.named_children():
        inside = {name, *(f"{name}.{each}" for each, _ in child.named_modules())}
        if not inside & ran and any(n_classes in _outputs(m) for m in child.modules()):
            found.append(name)
    return found


@contextmanager
def root_in_training(module: nn.Module) -> Iterator[None]:
    """Only the root's own flag is set to training: second classifiers run, and no batch norm counts what it sees."""
    before = module.training
    module.training = True
    try:
        yield
    finally:
        module.training = before
