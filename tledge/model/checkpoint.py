"""Classifiers of texts and of images through one door: build, save, load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tledge.errors import ModelError
from tledge.inputs import image as image_inputs
from tledge.model import classifier as texts
from tledge.model import image_classifier as images
from tledge.model.backbones.image import ImageBackbone
from tledge.model.backbones.transformers import Backbone
from tledge.model.classifier import TextClassifier
from tledge.model.image_classifier import ImageClassifier


def build(
    backbone: Backbone | ImageBackbone,
    *,
    optimum_task: str = "text-classification",
    pooling: str = "mean",
    max_length: int = 128,
    **settings: Any,
) -> TextClassifier | ImageClassifier:
    """A classifier with a fresh head, in eval mode; the backbone's module becomes a part of it.

    Args:
        backbone: of texts or images.
        optimum_task: the ecosystem's name of the task, for texts.
        pooling: of a text's tokens; `mean`, `cls`, `last` or `pooler`.
        max_length: tokens at which texts are cut.
        settings: `task`, `problem_type`, `labels`, `dropout_prob`, `head_hidden_size` and, for a regression,
            `target_scale`: mean and standard deviation of the targets.

    Raises:
        ModelError: the pooling does not fit the backbone, or `max_length` is more than it can read.
    """
    if isinstance(backbone, ImageBackbone):
        return images.build_image(backbone, **settings)
    return texts.build_text(backbone, optimum_task=optimum_task, pooling=pooling, max_length=max_length, **settings)


def save(classifier: TextClassifier | ImageClassifier, folder: Path, backbone: Backbone | ImageBackbone) -> None:
    """Write a checkpoint: config.json, model.safetensors, and the files of `save_inputs`."""
    if isinstance(classifier, ImageClassifier):
        assert isinstance(backbone, ImageBackbone)
        images.save_image(classifier, folder, backbone)
    else:
        assert isinstance(backbone, Backbone)
        texts.save_text(classifier, folder, backbone.tokenizer)


def save_inputs(classifier: TextClassifier | ImageClassifier, backbone: Backbone | ImageBackbone, folder: Path) -> None:
    """Write what `inputs.load` reads: the tokenizer's files, or preprocessor_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(backbone, ImageBackbone):
        image_inputs.write_config(folder, backbone.preprocessing)
    else:
        assert isinstance(classifier, TextClassifier)
        texts.save_tokenizer(classifier, backbone.tokenizer, folder)


def load(folder: Path) -> TextClassifier | ImageClassifier:
    """The classifier of a checkpoint folder, in eval mode.

    Raises:
        ModelError: the folder is not a checkpoint of tledge, or its weights do not fit.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} is not a checkpoint: {str(error).partition(chr(10))[0]}") from error
    if not isinstance(config, dict) or not isinstance(config.get("tledge"), dict):
        raise ModelError(f"{folder}/config.json has no 'tledge' entry; expected a checkpoint that tledge wrote")
    return images.load_image(folder, config) if "backbone" in config["tledge"] else texts.load_text(folder)
