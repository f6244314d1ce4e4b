"""Image classifiers of torchvision: `torchvision:NAME`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import MethodType
from typing import Any

from torch import Tensor, nn
from torchvision import models

from tledge.errors import ModelError, did_you_mean
from tledge.inputs.image import Facts
from tledge.model import weights as weight_files
from tledge.model.backbones.source import IMAGENET_MEAN, IMAGENET_STD, Source


def find(name: str, weights: str | None) -> Source:
    """The classifier of that name; its preprocessing is that of the named weights, or of the default ones.

    Raises:
        ModelError: torchvision has no such classifier, or no such weights for it.
    """
    known = models.list_models(module=models)
    if name not in known:
        raise ModelError(
            f"model.backbone: torchvision has no classifier {name!r}{did_you_mean(name, known)} "
            "(torchvision.models.list_models() lists them)"
        )
    enum: Any = models.get_model_weights(name)
    if weights is None or weights == "none" or weight_files.is_file(weights):
        chosen = enum.DEFAULT
    elif weights in enum.__members__:
        chosen = enum[weights]
    else:
        names = [*enum.__members__]
        raise ModelError(
            f"model.weights: torchvision's {name} has no weights {weights!r}: known are {', '.join(names)}, none, "
            f"or a file that ends in {', '.join(weight_files.SUFFIXES)}{did_you_mean(weights, names)}"
        )

    def state(_size: tuple[int, int]) -> Mapping[str, Tensor]:
        return weight_files.read(weights) if weights and weight_files.is_file(weights) else _download(name, chosen)

    return Source("torchvision", name, _facts(chosen), lambda _size: build(name), None if weights == "none" else state)


def build(name: str) -> nn.Module:
    """The network with random weights, in eval mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Inception and GoogLeNet announce a faster initialisation
        module: Any = models.get_model(name, weights=None)
    if hasattr(module, "transform_input"):
        # Their weights were trained on pixels scaled to -1..1: with this they take ImageNet's mean and deviation.
        module.transform_input = True
    if isinstance(module, models.MNASNet):
        # It insists on a version number beside its tensors, to rebuild weights of 2019, that only pickles keep.
        module._load_from_state_dict = MethodType(nn.Module._load_from_state_dict, module)
    network: nn.Module = module.eval()
    return network


def _download(name: str, chosen: Any) -> Mapping[str, Tensor]:
    """Pretrained tensors by torchvision's own loader, which knows the older names in its own files."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dict(models.get_model(name, weights=chosen, progress=False).state_dict())
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"model.weights: the weights {chosen.name} of torchvision's {name} cannot be downloaded: {reason}; give "
            "model.weights a local .pth or .safetensors file, or none for random weights"
        ) from error


def _facts(chosen: Any) -> Facts:
    """The preprocessing that a set of weights was measured with."""
    transform = chosen.transforms()
    (size,), (resize,) = transform.crop_size, transform.resize_size
    red, green, blue = transform.mean or IMAGENET_MEAN
    return Facts(
        size=(size, size),
        resize=resize,
        interpolation=transform.interpolation.value,
        mean=(red, green, blue),
        std=tuple(transform.std or IMAGENET_STD),
        crop_offset="round",
    )
