"""Image classifiers of timm: `timm:NAME`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import timm
from torch import Tensor, nn

from tledge import hub
from tledge.errors import ModelError, did_you_mean
from tledge.inputs.image import Facts
from tledge.model import weights as weight_files
from tledge.model.backbones.source import Source


def find(name: str, weights: str | None) -> Source:
    """The classifier of that name, which may carry the tag of its weights (`resnet18.a1_in1k`).

    Raises:
        ModelError: timm has no such classifier, or no such weights for it.
    """
    plain, _, tag = name.partition(".")
    if not timm.is_model(plain):
        known = timm.list_models()
        raise ModelError(
            f"model.backbone: timm has no classifier {plain!r}{did_you_mean(plain, known)} "
            "(timm.list_models() lists them)"
        )
    from_file = weights is not None and weight_files.is_file(weights)
    if weights not in (None, "none") and not from_file:
        tag = str(weights)
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{plain}.*")]
    if tag and tag not in tags:
        raise ModelError(
            f"model.weights: timm's {plain} has no weights {tag!r}: known are {', '.join(tags) or 'none'}, or a file "
            f"that ends in {', '.join(weight_files.SUFFIXES)}{did_you_mean(tag, tags)}"
        )
    tagged = f"{plain}.{tag}" if tag else plain
    config: Any = timm.get_pretrained_cfg(tagged)
    own = own_size(tagged)

    def state(size: tuple[int, int]) -> Mapping[str, Tensor]:
        if from_file:
            return weight_files.read(str(weights))
        return _download(tagged, {} if size == own else {"img_size": size})

    return Source(
        "timm", plain, _facts(config, own), partial(build, plain, own=own), None if weights == "none" else state
    )


def own_size(name: str) -> tuple[int, int]:
    """The height and width that a classifier takes by itself."""
    _, height, width = timm.get_pretrained_cfg(name).input_size
    return int(height), int(width)


def build(name: str, size: tuple[int, int], *, own: tuple[int, int] | None = None) -> nn.Module:
    """The network with random weights, in eval mode, for this height and width.

    Transformers are told the size, which fixes their position embeddings; convolutional networks take any.
    """
    # An encoder that was published without a classifier gets one, for its place to be found.
    classes: dict[str, Any] = {} if timm.get_pretrained_cfg(name).num_classes else {"num_classes": 1000}
    if size != own:
        with suppress(TypeError):  # it has no such option
            return timm.create_model(name, pretrained=False, img_size=size, **classes).eval()
    return timm.create_model(name, pretrained=False, **classes).eval()


def _download(tagged: str, options: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """Pretrained tensors by timm's own loader, which fits position embeddings to another size."""
    repository = str(timm.get_pretrained_cfg(tagged).hf_hub_id or "")
    reason = hub.why_not(repository, file="model.safetensors") if repository else ""
    if reason:
        raise ModelError(
            f"model.weights: the weights of timm's {tagged} cannot be downloaded: {reason}; give model.weights a local "
            ".pth or .safetensors file, or none for random weights; `tledge init` knows weights that a package carries"
        )
    try:
        try:
            module = timm.create_model(tagged, pretrained=True, **options)
        except TypeError:  # it has no such option
            module = timm.create_model(tagged, pretrained=True)
        return dict(module.state_dict())
    except Exception as error:  # the hub's client raises many kinds
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"model.weights: the weights of timm's {tagged} cannot be downloaded: {reason}; give model.weights a local "
            ".pth or .safetensors file, or none for random weights"
        ) from error


def _facts(config: Any, size: tuple[int, int]) -> Facts:
    """The preprocessing of timm's own evaluation, with torchvision's centre crop.

    Raises:
        ModelError: it is one that is not done here.
    """
    resize: int | tuple[int, int]
    if config.crop_mode == "border" or (config.crop_mode == "center" and size[0] != size[1]):
        raise ModelError(
            f"model.backbone: timm prepares images for {config.architecture} in a way that is not done here "
            f"(crop mode {config.crop_mode!r} to {size[0]} x {size[1]}); expected a square centre crop or resizing"
        )
    if config.crop_mode == "squash":
        resize = (math.floor(size[0] / config.crop_pct), math.floor(size[1] / config.crop_pct))
    else:
        resize = math.floor(size[0] / config.crop_pct)
    mean, std = config.mean, config.std
    return Facts(
        size=size,
        resize=resize,
        interpolation=config.interpolation,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        crop_offset="round",
    )
