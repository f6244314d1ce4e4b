"""Models of images and texts together, CLIP and SigLIP: the image's tower as a backbone, and vectors of texts.

What is shipped is the image's tower alone; the text's tower makes vectors of labels once, on the workstation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from tledge.errors import ModelError
from tledge.model.backbones.transformers import explain, loading_options, place_of

MODEL_TYPES = ("clip", "siglip")
"""Configs of transformers whose model has a tower of each."""
_IMAGE = ("vision_model.", "visual_projection.")


class ImageTower(nn.Module):
    """The tower of images, with a last layer of two outputs that stands where a head goes: `(batch, 2)`."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        whole = AutoModel.from_config(config, dtype=torch.float32)
        self.vision_model = whole.vision_model
        projection = getattr(whole, "visual_projection", None)  # SigLIP has none
        width = config.vision_config.hidden_size if projection is None else projection.out_features
        self.visual_projection = nn.Identity() if projection is None else projection
        self.classifier = nn.Linear(width, 2)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """What the last layer makes of the vectors of images, `(batch, 3, height, width) float32`."""
        return self.classifier(self.visual_projection(self.vision_model(pixel_values=pixel_values).pooler_output))


def image_state(whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the image's tower among those of both."""
    return {name: tensor for name, tensor in whole.items() if name.startswith(_IMAGE)}


def text_vectors(reference: str, texts: Sequence[str], *, revision: str | None = None) -> npt.NDArray[Any]:
    """The vectors of texts by the text's tower, `(texts, n_features) float32`.

    Args:
        reference: a hub id, a local folder or `package:NAME/PATH` of a model of images and texts.
        texts: as they are.
        revision: of a hub id.

    Raises:
        ModelError: nothing loadable is there, or it is no such model.
    """
    place, options = place_of(reference, revision), loading_options(revision)
    try:
        config = AutoConfig.from_pretrained(place, **options)
        if config.model_type not in MODEL_TYPES:
            raise ModelError(
                f"model.backbone: {reference!r} is a {config.model_type!r}, which reads no texts beside images; method "
                f"clip takes one of {', '.join(MODEL_TYPES)}"
            )
        whole = AutoModel.from_pretrained(place, dtype=torch.float32, **options).eval()
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(explain(reference, error)) from error
    # SigLIP has only seen texts that are padded to its full length, and no mask.
    fixed = {"padding": "max_length", "max_length": config.text_config.max_position_embeddings}
    padding = fixed if config.model_type == "siglip" else {"padding": True}
    tokens = tokenizer(list(texts), truncation=True, return_tensors="pt", **padding)
    given = {name: tokens[name] for name in ("input_ids", "attention_mask") if name in tokens}
    if config.model_type == "siglip":
        given.pop("attention_mask", None)
    with torch.inference_mode():
        pooled = whole.text_model(**given).pooler_output
        found = getattr(whole, "text_projection", nn.Identity())(pooled)
    return np.asarray(found.numpy())
