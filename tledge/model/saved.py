"""Whether a checkpoint that was just written computes what the model in memory does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tledge.errors import TrainError
from tledge.model.checkpoint import load
from tledge.model.head import folded
from tledge.model.language import load_language

_RTOL, _ATOL = 1e-3, 1e-4
"""The scale of a regression is folded into the last layer when it is saved, which rounds otherwise."""


def check_saved(model: Any, folder: Path, sample: Mapping[str, npt.NDArray[Any]]) -> None:
    """Nothing, where the classifier of a checkpoint answers as the one that it was made of.

    Args:
        model: a `TextClassifier` or an `ImageClassifier`, left as it is.
        folder: the checkpoint.
        sample: a few rows as the model takes them, each tensor `(batch, ...)`.

    Raises:
        TrainError: the answers differ; the line names the first tensor that does.
    """
    head = {f"classifier.{name}": tensor for name, tensor in folded(model.classifier).state_dict().items()}
    body = {name: t for name, t in model.state_dict().items() if not name.startswith("classifier.")}
    _compare(
        model, load(folder), folder, body | head, sample, lambda each, tensors: next(iter(each(**tensors).values()))
    )


def check_saved_detector(model: Any, folder: Path, sample: Mapping[str, npt.NDArray[Any]]) -> None:
    """The same for a detector, by what it tells of all places before detections are chosen.

    Raises:
        TrainError: as `check_saved`.
    """
    _compare(
        model,
        load(folder),
        folder,
        model.state_dict(),
        sample,
        lambda each, tensors: torch.cat([part.flatten(1) for part in each.answers(**tensors).values()], 1),
    )


def check_saved_language(model: Any, folder: Path, blocks: npt.NDArray[Any]) -> None:
    """The same for a language model.

    Args:
        model: of transformers, left as it is.
        folder: the checkpoint.
        blocks: a few rows of tokens, `(batch, sequence)`.

    Raises:
        TrainError: as `check_saved`.
    """
    _compare(
        model,
        load_language(str(folder)).module,
        folder,
        model.state_dict(),
        {"input_ids": blocks, "attention_mask": np.ones_like(blocks)},
        lambda each, tensors: each(**tensors, use_cache=False).logits,
    )


def check_saved_masked(model: Any, folder: Path, sample: Mapping[str, npt.NDArray[Any]]) -> None:
    """The same for a model that says what hidden words were; `sample` as for `check_saved`.

    Raises:
        TrainError: as `check_saved`.
    """
    _compare(model, load(folder), folder, model.state_dict(), sample, lambda each, tensors: each(**tensors).logits)


def _compare(
    model: nn.Module,
    saved: nn.Module,
    folder: Path,
    state: Mapping[str, Tensor],
    sample: Mapping[str, npt.NDArray[Any]],
    run: Callable[[Any, dict[str, Tensor]], Tensor],
) -> None:
    device = next(model.parameters()).device
    tensors = {name: torch.from_numpy(array.astype(_kind(array))).to(device) for name, array in sample.items()}
    trains = model.training
    model.eval()
    try:
        with torch.no_grad():
            before, after = run(model, tensors), run(saved.to(device).eval(), tensors)
    finally:
        model.train(trains)
    if not before.isfinite().all():
        raise TrainError(
            "the trained model's answers are not finite numbers (NaN or infinity); lower the learning rate, or train "
            "without half precision"
        )
    alike = torch.allclose(before, after, rtol=_RTOL, atol=_ATOL * max(1.0, float(before.abs().max())))
    difference = _first_difference(state, saved.state_dict())
    if alike and difference is None:
        return
    what = difference or "all tensors are the same, so its config differs"
    raise TrainError(
        f"the checkpoint {folder} is not the model that it was saved from: outputs differ by up to "
        f"{float((before - after).abs().max()):.3g}, and {what}; train again, and report the architecture if it recurs"
    )


def _first_difference(state: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> str | None:
    for name, tensor in stored.items():
        own = state.get(name)
        if own is None:
            return f"{name!r} is only in the checkpoint"
        if own.shape != tensor.shape or not torch.allclose(own.cpu(), tensor.cpu(), rtol=_RTOL, atol=_ATOL):
            return f"the first tensor that differs is {name!r}"
    return None


def _kind(array: npt.NDArray[Any]) -> str:
    return "float32" if array.dtype.kind == "f" else "int64"
