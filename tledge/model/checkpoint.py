"""Classifiers of texts and of images through one door: build, save, load."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer
from transformers.initialization import no_init_weights

from tledge.errors import ModelError
from tledge.model import classifier as texts
from tledge.model import detectors
from tledge.model import image_classifier as images
from tledge.model.backbones.image import ImageBackbone
from tledge.model.backbones.transformers import Backbone, place_of
from tledge.model.classifier import TextClassifier
from tledge.model.embedder import load_embedder
from tledge.model.masked import load_masked


def build(
    backbone: Backbone | ImageBackbone,
    *,
    optimum_task: str = "text-classification",
    pooling: str = "mean",
    max_length: int = 128,
    windows: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Any:
    """A model with a fresh head, in eval mode, as `protocol.Classifier` says; the backbone becomes a part of it.

    Args:
        backbone: of texts or images.
        optimum_task: the ecosystem's name of the task, for texts.
        pooling: of a text's tokens; `mean`, `cls`, `last` or `pooler`.
        max_length: tokens at which texts are cut.
        settings: `task`, `problem_type`, `labels`, `dropout_prob`, `head_hidden_size` and, for a regression,
            `target_scale`: mean and standard deviation of the targets.
        windows: how texts are cut into windows, for models that answer each token; what `windows.json` says.

    Raises:
        ModelError: the pooling does not fit the backbone, or `max_length` is more than it can read.
    """
    of_texts = {"optimum_task": optimum_task, "pooling": pooling, "max_length": max_length, "windows": windows}
    return backbone.with_head(of_texts=of_texts, **settings)


def save_beside(classifier: TextClassifier, folder: Path, checkpoint: Path) -> None:
    """Write a checkpoint of a classifier of texts with the tokenizer of another checkpoint, as for a student."""
    texts.save_text(classifier, folder, AutoTokenizer.from_pretrained(checkpoint))


def whole(reference: str, *, task: str, labels: Sequence[str]) -> Path:
    """The folder of a checkpoint that is taken as it is, with its head.

    Args:
        reference: a folder, or `package:NAME/PATH`.
        task: the name of the task that it must have been trained for.
        labels: the labels of the data, in their order.

    Raises:
        ModelError: it is no checkpoint of tledge, or one of another task or other labels.
    """
    folder = Path(place_of(reference))
    if not folder.is_dir():
        raise ModelError(
            f"model.backbone: strategy none takes a checkpoint of tledge with its head, but there is no folder "
            f"{reference!r}; expected such as runs/NAME/train/checkpoint"
        )
    config = _config(folder)
    if config["tledge"]["task"] != task:
        raise ModelError(f"model.backbone: {reference!r} was trained for {config['tledge']['task']}, not for {task}")
    own = [config["id2label"][str(i)] for i in range(len(config["id2label"]))]
    if sorted(own) != sorted(labels):
        raise ModelError(
            f"model.backbone: the labels of {reference!r} are {', '.join(own)}, but those of the data are "
            f"{', '.join(labels)}; set data.label_names, or train with another strategy"
        )
    if own != list(labels):
        raise ModelError(
            f"model.backbone: {reference!r} has the labels in another order; set data.labels: [{', '.join(own)}]"
        )
    return folder


def load(folder: Path) -> Any:
    """The classifier of a checkpoint folder, or another model of tledge, in eval mode.

    Raises:
        ModelError: the folder is not a checkpoint of tledge, or its weights do not fit.
    """
    config = _config(folder)
    if "hidden_words" in config["tledge"]:
        return load_masked(str(folder)).module
    with no_init_weights():  # each is read from the folder
        if "embedding" in config["tledge"]:
            return load_embedder(folder)
        if "detector" in config["tledge"]:
            return detectors.load(folder, config)
        return images.load_image(folder, config) if "backbone" in config["tledge"] else texts.load_text(folder)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} is not a checkpoint: {str(error).partition(chr(10))[0]}") from error
    if not isinstance(config, dict) or not isinstance(config.get("tledge"), dict):
        raise ModelError(f"{folder}/config.json has no 'tledge' entry; expected a checkpoint that tledge wrote")
    return config
