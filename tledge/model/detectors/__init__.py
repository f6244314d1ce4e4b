"""Detectors: what tells where objects are in an image, one file a kind.

A detector is a torch module with these members beside those that training asks of every model
(`tledge.model.protocol.Classifier`):

===============  ======================================================================================================
`forward`        `pixel_values` to `boxes`, `scores` and `labels` of each image's detections, best first, padded
`losses`         `pixel_values` and targets to losses by name, whose sum trains it
`raw`            of one stage: `pixel_values` to all `boxes` `(batch, places, 4)` in pixels of the input, and `scores`
                 `(batch, labels, places)` from 0 to 1; without branches, for an input of the one size
`proposals`      of two stages: `pixel_values` to feature maps, `boxes` `(batch, places, 4)`, `scores`
                 `(batch, 1, places)` from 0 to 1, in their order, and `levels` `(places,)`
`chosen`         of two stages: which of those are looked into, by `proposal_suppression`
`regions`        of two stages: those maps and `rois` `(n, 5)` to `boxes` `(n, labels, 4)` and `scores` `(n, labels)`
`stages`         1, or 2 where what is in proposals is looked at anew
`suppression`    which of the boxes are detections
`size`           height and width of the input in pixels
===============  ======================================================================================================

Targets are `(batch, most, 6) float32`: label, xmin, ymin, xmax, ymax in pixels of the input, and whether the box is
ignored, with -1 in padding. Labels count from 0, and none of them stands for the background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tledge import plugins
from tledge.artifacts import from_dict
from tledge.errors import ModelError
from tledge.inputs._image_facts import Border, Facts
from tledge.inputs._suppression import Suppression
from tledge.inputs.image import read_config
from tledge.model.backbones import image
from tledge.model.backbones.image import WEIGHTS, ImageBackbone, rebuilt
from tledge.model.detectors import torchvision, transformers
from tledge.model.detectors._by_level import folded
from tledge.model.detectors._detector import HEAD, Made
from tledge.recipe.schema import Model

__all__ = ["Detector", "build", "folded", "load", "of_recipe"]


BY_NAME = {"torchvision": torchvision.load, "transformers": transformers.load}
"""What loads a checkpoint of a detector that is no body with layers of ours, by its kind."""


class Detector(Protocol):
    """What export and training ask of a detector; see the table above."""

    suppression: Suppression
    size: tuple[int, int]
    stages: int

    def __call__(self, pixel_values: Tensor) -> dict[str, Tensor]: ...
    def losses(self, pixel_values: Tensor, targets: Tensor) -> dict[str, Tensor]: ...
    def save(self, folder: Path, backbone: Any) -> None: ...


def build(
    kind: str,
    backbone: ImageBackbone,
    *,
    labels: Sequence[str],
    task: str = "object_detection",
    width: int | None = None,
    suppression: Suppression | None = None,
    train_norms: bool = False,
) -> Any:
    """A detector of a kind with fresh layers on a pretrained body, in eval mode; the body becomes a part of it.

    Args:
        kind: the name of its file, such as `fcos`.
        backbone: an image classifier without its last layer, with the preprocessing of the detector.
        labels: of the objects.
        task: the name of the task.
        width: channels between body and outputs; by default such as fit the body.
        suppression: which boxes are detections; by default as is usual.
        train_norms: whether batch norms of the body take new statistics in training, as those of random weights must.

    Raises:
        ModelError: the body gives no feature maps.
    """
    made = Made(kind, tuple(labels), task, suppression or Suppression(), width or 0, train_norms)
    return plugins.load(__name__, kind).make(backbone, made)


def of_recipe(settings: Model, *, labels: Sequence[str], task: str, pretrained: bool = True) -> tuple[Any, Any]:
    """The detector that a recipe describes, with new layers for its labels, and what its `save` takes as `backbone`.

    Args:
        settings: the recipe's `model`.
        labels: of the objects.
        task: the name of the task.
        pretrained: `False` for random weights.

    Raises:
        ModelError: nothing loadable is there, or it is nothing that a detector can be made of.
    """
    if settings.detector is None:
        return _whole_detector(settings, labels=labels, task=task, pretrained=pretrained)
    backbone = image.load(
        settings.backbone,
        revision=settings.revision,
        weights=settings.weights,
        match=settings.match,
        preprocessing=settings.preprocessing,
        pretrained=pretrained,
    )
    facts = whole(backbone.preprocessing, settings.input_size, settings.fit)
    backbone = replace(backbone, preprocessing=facts)
    detector = build(
        settings.detector,
        backbone,
        labels=labels,
        task=task,
        width=settings.head.hidden_size,
        train_norms=not pretrained or settings.weights == "none",
    )
    return detector, backbone


def _whole_detector(settings: Model, **of: Any) -> tuple[Any, Any]:
    """A detector by name."""
    of |= {"size": settings.input_size, "fit": lambda facts, size: whole(facts, size, settings.fit)}
    if settings.backbone.startswith("timm:"):
        raise ModelError(
            f"model.detector: missing key; {settings.backbone!r} is a classifier, which a detector is put on: set "
            "model.detector, such as fcos"
        )
    detector: Any
    saved: Any
    if settings.backbone.startswith(torchvision.PREFIX):
        detector, saved = torchvision.of_name(settings.backbone, weights=settings.weights, **of)
    else:
        detector, saved = transformers.of_reference(settings.backbone, revision=settings.revision, **of)
    _check_size(detector, settings.backbone)
    return detector, saved


def _check_size(detector: Any, reference: str) -> None:
    """Nothing, where a detector takes images of its input's size."""
    try:
        with torch.no_grad():
            detector(**detector.example(1))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())[:150]
        raise ModelError(
            f"model.input_size: {reference} does not take images of {detector.size[0]} x {detector.size[1]} pixels "
            f"({reason}); leave the key out for its own size, or give multiples of 32"
        ) from error


def whole(facts: Facts, size: Sequence[int] | None, fit: str) -> Facts:
    """The preprocessing of a body for a detector, which sees all of an image.

    Args:
        facts: the body's own.
        size: height and width; `None` for the body's own.
        fit: how an image fills them, as the recipe's `model.fit` has it.
    """
    height, width = size or facts.size
    border = cast("Border", "none" if fit == "stretch" else fit)
    return replace(facts, size=(height, width), resize=(height, width), border=border)


def load(folder: Path, config: Mapping[str, Any]) -> Any:
    """The detector of a checkpoint folder, in eval mode; `config` is its config.json.

    Raises:
        ModelError: its weights do not fit.
    """
    facts = config["tledge"]
    kind = facts["detector"]["kind"]
    if kind in BY_NAME:
        return BY_NAME[kind](folder, config, read_config(folder).size)
    model = build(
        kind,
        rebuilt(folder, config),
        labels=[config["id2label"][str(i)] for i in range(len(config["id2label"]))],
        task=facts["task"],
        width=facts["detector"]["width"],
        suppression=from_dict(Suppression, facts["detector"]["suppression"]),
    )
    try:
        state = load_file(folder / WEIGHTS)
        model.load_state_dict(
            {
                f"classifier.{name.removeprefix(HEAD)}" if name.startswith(HEAD) else f"backbone.{name}": tensor
                for name, tensor in state.items()
            }
        )
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder / WEIGHTS} does not fit config.json: {reason}; run the train stage again") from error
    return model.eval()
