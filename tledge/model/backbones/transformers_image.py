"""Image classifiers of transformers: a hub id, a local folder, or a folder inside an installed package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from tledge.errors import BundleError, ModelError
from tledge.inputs.image import FILE, from_config
from tledge.model.backbones import image_text
from tledge.model.backbones.folder import check_not_quantized
from tledge.model.backbones.loading import pretrained
from tledge.model.backbones.source import Source
from tledge.model.backbones.transformers import explain, loading_options, place_of


def find(reference: str, revision: str | None) -> Source:
    """The classifier of a reference, with its own image processor's preprocessing.

    Raises:
        ModelError: nothing loadable is there, or it classifies no images.
    """
    place, options = place_of(reference, revision), loading_options(revision)
    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(place, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(explain(reference, error)) from error
    check_not_quantized(config, reference)
    both = config.model_type in image_text.MODEL_TYPES
    if not both and type(config) not in AutoModelForImageClassification._model_mapping:
        raise ModelError(
            f"model.backbone: {reference!r} is a {config.model_type!r}, for which transformers has no image classifier"
        )
    try:
        file = cached_file(place, FILE, revision=revision)
        facts = from_config(json.loads(Path(file).read_text(encoding="utf-8")), f"{reference}'s {FILE}")
    except (OSError, ValueError) as error:
        raise ModelError(explain(reference, error)) from error
    except BundleError as error:
        raise ModelError(f"model.backbone: {error}") from error

    def state(_size: tuple[int, int]) -> Mapping[str, Tensor]:
        try:
            if both:
                whole = AutoModel.from_pretrained(place, config=config, dtype=torch.float32, **options)
                return image_text.image_state(whole.state_dict())
            loaded = pretrained(
                AutoModelForImageClassification, place, reference=reference, config=config, free=None, **options
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise ModelError(explain(reference, error)) from error
        return {n: t for n, t in loaded.module.state_dict().items() if n not in loaded.missing}

    return Source("transformers", config.model_type, facts, partial(build, config), state, _as_json(config))


def of_config(own_config: Mapping[str, Any]) -> partial[nn.Module]:
    """How to build the network of a stored config.json."""
    facts = {key: value for key, value in own_config.items() if key != "model_type"}
    return partial(build, AutoConfig.for_model(own_config["model_type"], **facts))


def build(config: Any, _size: tuple[int, int]) -> nn.Module:
    """The network of a config with random weights, in eval mode; its config says the sizes that it takes."""
    if config.model_type in image_text.MODEL_TYPES:
        return image_text.ImageTower(config).eval()
    module: nn.Module = AutoModelForImageClassification.from_config(config, dtype=torch.float32)
    return module.eval()


def _as_json(config: Any) -> dict[str, Any]:
    found = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in found.items() if key not in ("_name_or_path", "dtype", "tledge")}
