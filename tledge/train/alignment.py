"""Learn the labels of one domain and make its features like those of another, which has none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tledge.batches import Columns
from tledge.losses.domain import coral, dann, mmd
from tledge.train.objective import Objective

TARGET = "target_"
"""What the names of the other domain's tensors begin with, in a batch and in outputs."""
CORAL_FACTOR = 10.0
"""What Deep CORAL's distance counts at a strength of 1; without it, it is small beside the loss of the labels."""
HIDDEN = 128
"""Width of the network that tells domains apart."""
ALIGNING = ("coral", "dann", "mmd", "self_training")
"""The methods that are a loss beside that of the labels."""


class Alongside(Columns):
    """Rows of one domain, each with one of another: as many, drawn anew for each batch from its seed."""

    def __init__(self, rows: Columns, others: Columns) -> None:
        self.rows, self.others = rows, others
        self.lengths, self.counted = rows.lengths, rows.counted
        self.decodes, self.large = rows.decodes or others.decodes, rows.large

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:
        """The tensors of both, those of the other domain with `target_` before their names."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(len(self.others), (len(rows),), generator=generator)
        others = self.others.take(drawn, seed)
        return self.rows.take(rows, seed) | {f"{TARGET}{name}": each for name, each in others.items()}

    def finish(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Each as its own columns finish it."""
        own, other = parted(batch)
        others = self.others.finish(other, seed)
        return self.rows.finish(own, seed) | {f"{TARGET}{name}": each for name, each in others.items()}

    def at(self, epochs_left: float) -> Alongside:
        """Both as they then are."""
        return Alongside(self.rows.at(epochs_left), self.others.at(epochs_left))

    def on(self, device: torch.device) -> Alongside:
        """Both on the device, as far as they fit."""
        return Alongside(self.rows.on(device), self.others.on(device))


class Aligned(nn.Module):
    """A phase's module that in training also runs over rows of another domain, and tells what the head took of both.

    Where the features themselves are fixed, a square linear map between them and the head learns in their place; it
    starts as the identity and is to be folded into the head.
    """

    progress: Tensor

    def __init__(self, module: nn.Module, dropout: nn.Module, method: str, n_features: int, *, maps: bool) -> None:
        """Listen before a module's head.

        Args:
            module: gives `logits` of a batch of rows.
            dropout: the part of it that stands before its head.
            method: one of `ALIGNING`.
            n_features: width of what the head takes.
            maps: whether a map stands before the head.
        """
        super().__init__()
        self.module, self.method = module, method
        self.maps = identity(n_features) if maps else None
        self.domain: nn.Module = nn.Identity()
        if method == "dann":
            self.domain = nn.Sequential(nn.Linear(n_features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))
        self.register_buffer("progress", torch.zeros(()))
        self.step = 0.0
        self._listening = dropout.register_forward_pre_hook(self._hear)
        self._heard: Tensor | None = None

    def _hear(self, _module: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor]:
        self._heard = args[0] if self.maps is None else self.maps(args[0])
        return (self._heard,)

    def begin(self, n_batches: int) -> None:
        """Say how many batches the training has, by which the reversal's strength grows."""
        self.step = 1 / max(1, n_batches)

    def restore(self) -> None:
        """Listen no more."""
        self._listening.remove()

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """What the module gives for its own rows, and in training `features` of them, and `target_features`.

        With `dann` both are logits, `(batch,)`, that a row is of the other domain. With `self_training` there are
        `target_logits` and the `target_labels` that came with the rows instead.
        """
        own, other = parted(inputs)
        labels = other.pop("labels", None)
        outputs = dict(self.module(**own))
        if not self.training or not other:
            return outputs
        features = self._features()
        answered = self.module(**other)
        target = self._features()
        if labels is not None:
            return outputs | {f"{TARGET}logits": answered["logits"], f"{TARGET}labels": labels}
        if self.method == "dann":
            factor = dann.factor(self.progress.clone())
            self.progress += self.step
            features, target = (
                self.domain(dann.reversed_gradient(each, factor)).squeeze(1) for each in (features, target)
            )
        return outputs | {"features": features, f"{TARGET}features": target}

    def _features(self) -> Tensor:
        assert self._heard is not None
        found, self._heard = self._heard, None
        return found


def identity(width: int) -> nn.Linear:
    """A square linear layer that gives what it takes, until it learns."""
    made = nn.Linear(width, width)
    with torch.no_grad():
        made.weight.copy_(torch.eye(width))
        made.bias.zero_()
    return made


def parted(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A batch's own tensors, and those of the other domain under their plain names."""
    own = {name: each for name, each in tensors.items() if not name.startswith(TARGET)}
    other = {name.removeprefix(TARGET): each for name, each in tensors.items() if name.startswith(TARGET)}
    return own, other


def aligning(objective: Objective, method: str, strength: float) -> Objective:
    """The loss of the labels, and `strength` times how unlike the domains' features are.

    With `self_training` it is `strength` times the loss of the labels that rows of the other domain were given. For
    `coral` the features are divided by the source's root mean square first, so that neither their unit matters nor
    shrinking them helps.
    """
    unlike = {"coral": _coral, "mmd": mmd.loss, "dann": dann.loss}.get(method, _nothing)

    def compute(outputs: Mapping[str, Tensor], labels: Tensor, n_items: int | Tensor | None) -> Tensor:
        total = objective(outputs, labels, n_items)
        if f"{TARGET}logits" in outputs:
            given = outputs[f"{TARGET}labels"]
            of_target = objective({"logits": outputs[f"{TARGET}logits"]}, given, n_items)
            return total + strength * of_target
        if f"{TARGET}features" not in outputs:
            return total
        share = 1.0 if n_items is None else labels.numel() / n_items
        return total + strength * share * unlike(outputs["features"], outputs[f"{TARGET}features"])

    return compute


def _nothing(source: Tensor, target: Tensor) -> Tensor:  # noqa: ARG001
    return source.new_zeros(())


def _coral(source: Tensor, target: Tensor) -> Tensor:
    scale = source.float().square().mean().sqrt().clamp(min=1e-12)
    return CORAL_FACTOR * coral.loss(source / scale, target / scale)


class Mapped(Columns):
    """Columns whose `features` go through an affine map."""

    def __init__(self, rows: Columns, matrix: Tensor, shift: Tensor) -> None:
        self.rows, self.matrix, self.shift = rows, matrix, shift
        self.lengths, self.counted, self.decodes, self.large = rows.lengths, rows.counted, rows.decodes, rows.large

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Tensor, seed: int) -> dict[str, Tensor]:
        """Those of the rows before the map."""
        return self.rows.take(rows, seed)

    def finish(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """The mapped features, and all else as it is."""
        found = self.rows.finish(batch, seed)
        features = found["features"]
        return found | {"features": features @ self.matrix.to(features.device) + self.shift.to(features.device)}

    def on(self, device: torch.device) -> Mapped:
        """On the device, if they fit."""
        return Mapped(self.rows.on(device), self.matrix, self.shift)


def recoloured(source: Columns, target: Columns) -> Callable[[Columns], Columns]:
    """What gives columns of source `features` the mean and covariance of the target's, in closed form."""
    matrix, shift = coral.recolouring(_all(source), _all(target))
    return lambda columns: Mapped(columns, matrix, shift)


def _all(columns: Columns) -> Tensor:
    """The features of all rows, `(rows, features) float32`; of rows with several views one each."""
    return columns.batch(range(len(columns)))["features"]
