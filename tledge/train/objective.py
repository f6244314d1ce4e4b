"""What a training makes small: a module's outputs and the labels to one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

AUXILIARY_WEIGHT = 0.4
"""What the loss of a second classifier, inside the backbone, counts beside that of the head (torchvision's value for
Inception v3, Szegedy et al. 2016)."""

Loss = Callable[..., Tensor]
"""A function of `tledge.losses`."""

Objective = Callable[[Mapping[str, Tensor], Tensor, "int | Tensor | None"], Tensor]
"""A batch's outputs, its labels, and what their sum is divided by, to a scalar.

The last is the number of elements of the labels in the whole optimizer step, so that accumulated gradients equal those
of one large batch; `None` means this batch's own number.
"""


def relating(loss: Loss, *, low: float = 0.0, high: float = 1.0) -> Objective:
    """The loss of vectors of the texts of each row, `sentence_embedding`.

    Args:
        loss: a function of `tledge.losses.embedding`.
        low: the score that counts as 0, where targets are scores.
        high: the score that counts as 1.
    """

    def compute(outputs: Mapping[str, Tensor], labels: Tensor, n_items: int | Tensor | None) -> Tensor:
        per_row = labels.numel() // len(labels)
        if n_items is not None:
            n_items = n_items / per_row  # type: ignore[assignment]  # counted by element; the losses count rows
        scaled = (labels - low) / (high - low) if labels.is_floating_point() else labels
        return loss(outputs["sentence_embedding"], scaled, n_items=n_items)

    return compute


def detecting(loss: Loss, *, output: str) -> Objective:
    """The loss of a detector that gives losses by name.

    Args:
        loss: a function of `tledge.losses.detectors`.
        output: what else the detector gives, where it is scored.
    """

    def compute(outputs: Mapping[str, Tensor], labels: Tensor, n_items: int | Tensor | None) -> Tensor:
        share = 1.0 if n_items is None else labels.numel() / n_items
        return loss({name: each for name, each in outputs.items() if name != output}, share=share)

    return compute


def supervised(
    loss: Loss,
    *,
    label_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    mixed: bool = False,
) -> Objective:
    """The loss of `logits` against the labels, that of a second classifier (`aux_logits`) included.

    Args:
        loss: a function of `tledge.losses`.
        label_weights: `(labels,) float32`, or `None`.
        label_smoothing: the share of the target that is spread evenly over all labels.
        mixed: whether training rows are mixed, so that their labels, `(batch, labels) float32`, are shares of one.
    """

    def compute(outputs: Mapping[str, Tensor], labels: Tensor, n_items: int | Tensor | None) -> Tensor:
        if mixed and labels.ndim == 2 and n_items is not None:
            n_items = n_items / labels.shape[1]  # type: ignore[assignment]  # counted by element; a row has one label
        if one_for_each_token(outputs, labels):
            outputs, labels, n_items = of_tokens(outputs, labels, n_items)
        options: dict[str, Any] = {
            "label_weights": label_weights,
            "label_smoothing": label_smoothing,
            "n_items": n_items,
        }
        total = loss(outputs["logits"], labels, **options)
        if "aux_logits" in outputs:
            total = total + AUXILIARY_WEIGHT * loss(outputs["aux_logits"], labels, **options)
        return total

    return compute


def one_for_each_token(outputs: Mapping[str, Tensor], labels: Tensor) -> bool:
    """Whether labels are `(batch, sequence)`, one for each of the `logits`; a row's own may have two axes as well."""
    return outputs["logits"].ndim == 3 and labels.shape == outputs["logits"].shape[:2]


def of_tokens(
    outputs: Mapping[str, Tensor], labels: Tensor, n_items: int | Tensor | None
) -> tuple[dict[str, Tensor], Tensor, int | Tensor]:
    """The outputs and labels of tokens one below the other, and what their sum is divided by.

    Args:
        outputs: `logits`, `(batch, sequence, labels)`, and others of the same first two axes.
        labels: `(batch, sequence) int64`, below zero where no loss counts them.
        n_items: the number of labels that count, in all batches of a step; `None` for those of this one.
    """
    flat = {name: each.flatten(0, 1) for name, each in outputs.items() if each.shape[:2] == labels.shape}
    return flat, labels.flatten(), (labels >= 0).sum().clamp(min=1) if n_items is None else n_items
