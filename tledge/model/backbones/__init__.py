"""Pretrained bodies, one file a family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from transformers import AutoModelForImageClassification

from tledge.errors import ModelError
from tledge.model.backbones import image, image_text, transformers
from tledge.model.backbones.image import ImageBackbone
from tledge.model.backbones.transformers import Backbone
from tledge.model.weights import Match


def load(
    reference: str,
    *,
    kind: str = "text",
    revision: str | None = None,
    weights: str | None = None,
    match: Match = "names",
    preprocessing: image.Preprocessing | None = None,
    pretrained: bool = True,
) -> Any:
    """The backbone of a reference, a `Backbone` of texts or an `ImageBackbone`, in eval mode, float32.

    Args:
        reference: a hub id, a local folder (an earlier run's checkpoint too) or `package:NAME/PATH`; for images also
            `torchvision:NAME` or `timm:NAME`.
        kind: `text` or `image`.
        revision: the branch, tag or commit of a hub id.
        weights: for `torchvision:` and `timm:`: a name or tag of theirs, a file, `package:NAME/PATH`, or `none`.
        match: how a file's tensors find their places: by `names` or by `order`.
        preprocessing: what the recipe wants different from the backbone's own.
        pretrained: `False` for the same architecture with random weights.

    Raises:
        ModelError: nothing loadable is there, its weights do not fit, or it is of the other kind.
    """
    return FAMILIES[kind](
        reference, revision=revision, weights=weights, match=match, preprocessing=preprocessing, pretrained=pretrained
    )


def _of_texts(reference: str, *, revision: str | None, pretrained: bool, **_of_images: Any) -> Backbone:
    if reference.startswith(("torchvision:", "timm:")):
        raise ModelError(f"model.backbone: {reference!r} is a backbone of images, but the task takes texts")
    return transformers.load(reference, revision=revision, pretrained=pretrained)


FAMILIES: Mapping[str, Callable[..., Backbone | ImageBackbone]] = {"text": _of_texts, "image": image.load}
"""What loads the backbones of a kind."""


def kind_of(reference: str) -> str:
    """What the backbone of a reference takes, `text` or `image`, as far as its config tells.

    Raises:
        ModelError: no config is there.
    """
    if reference.startswith(("torchvision:", "timm:")) or image.is_checkpoint(reference):
        return "image"
    config = transformers.config_of(reference)
    both = config.model_type in image_text.MODEL_TYPES
    return "image" if both or type(config) in AutoModelForImageClassification._model_mapping else "text"


__all__ = ["Backbone", "ImageBackbone", "kind_of", "load"]
