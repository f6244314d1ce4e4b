"""Image backbones: a classifier of torchvision, timm, transformers or an earlier run, without its last layer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tledge.errors import BundleError, ModelError
from tledge.inputs.image import Facts, read_config
from tledge.model import weights as weight_files
from tledge.model.backbones.loading import check_finite
from tledge.model.backbones.source import Source
from tledge.model.backbones.transformers import place_of
from tledge.model.last_layer import LastLayer, take_off

MOMENTUM = 0.1
"""The least momentum of batch norms in a network with random weights: torch's default."""
CONFIG, WEIGHTS = "config.json", "model.safetensors"


class Preprocessing(Protocol):
    """What a recipe may say of preprocessing; `None` leaves the backbone's own."""

    size: int | None
    resize: int | None
    interpolation: Any
    mean: list[float] | None
    std: list[float] | None


@dataclass(frozen=True, slots=True)
class ImageBackbone:
    """A pretrained body of images.

    `module` takes pixel_values, `(batch, 3, height, width) float32`, and gives `(batch, n_features)`, as a tensor or as
    the logits of its library's output. `library` and `name` (and `own_config`, of transformers) say how to build it
    again, and `notes` are lines to tell the user.
    """

    reference: str
    module: nn.Module
    preprocessing: Facts
    last_layer: LastLayer
    library: str
    name: str
    own_config: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    def with_head(self, *, of_texts: Mapping[str, Any], **settings: Any) -> Any:  # noqa: ARG002
        """An `ImageClassifier` with a fresh head on this backbone; the settings are those of `checkpoint.build`."""
        from tledge.model.image_classifier import build_image

        return build_image(self, **settings)

    @property
    def n_features(self) -> int:
        """The width of a feature vector."""
        return self.last_layer.n_features

    @property
    def aux(self) -> str | None:
        """The name of the second classifier that runs in training only, such as Inception's `AuxLogits`."""
        return self.last_layer.second


def load(
    reference: str,
    *,
    revision: str | None = None,
    weights: str | None = None,
    match: weight_files.Match = "names",
    preprocessing: Preprocessing | None = None,
    pretrained: bool = True,
) -> ImageBackbone:
    """The image backbone of a reference, in eval mode, float32; with random weights unless `pretrained`.

    Raises:
        ModelError: nothing loadable is there, the weights do not fit, or it does not take the size that is asked for.
    """
    source = _source(reference, revision, weights)
    facts = adjusted(source.facts, preprocessing)
    module = source.build(facts.size)
    own = module.state_dict()
    last_layer = _take_off(module, reference, facts.size, source.facts.size)
    notes: list[str] = []
    if not pretrained or source.state is None:
        notes.append("random weights")
        _quicken(module)
    else:
        free = last_layer.dropped
        state, notes = weight_files.match(
            own, source.state(facts.size), how=match, free=free, source=weights or reference
        )
        kept = module.state_dict()
        module.load_state_dict({n: t for n, t in state.items() if n in kept}, strict=False)
        check_finite(module, weights or reference, "model.weights" if weights else "model.backbone")
    if last_layer.too_small is not None:
        notes.append(
            f"the second classifier {last_layer.too_small!r} is left out: images of {facts.size[0]} x {facts.size[1]} "
            "pixels are too small for it"
        )
    return ImageBackbone(
        reference, module.eval(), facts, last_layer, source.library, source.name, source.own_config, tuple(notes)
    )


def _quicken(module: nn.Module) -> None:
    """Let the statistics of batch norms follow weights that change fast.

    The momentum of 0.01 that MobileNetV3 and others have is meant for hundreds of thousands of steps: it is a hundred
    steps behind the weights, so that after a few hundred the network answers the same to every image.
    """
    for norm in module.modules():
        if isinstance(norm, _BatchNorm) and norm.momentum is not None:
            norm.momentum = max(norm.momentum, MOMENTUM)


def rebuilt(folder: Path, config: Mapping[str, Any]) -> ImageBackbone:
    """The architecture of a checkpoint that tledge wrote, with random weights; `config` is its config.json."""
    source = _of_checkpoint(folder, config)
    module = source.build(source.facts.size)
    last_layer = _take_off(module, str(folder), source.facts.size, source.facts.size)
    return ImageBackbone(str(folder), module, source.facts, last_layer, source.library, source.name, source.own_config)


def adjusted(facts: Facts, wanted: Preprocessing | None) -> Facts:
    """A backbone's preprocessing with what a recipe wants to be different; resizing scales with the size.

    Raises:
        ModelError: images would be resized to less than what is cut out of them.
    """
    if wanted is None:
        return facts
    if wanted.size is not None:
        size = (wanted.size, wanted.size)
        resize: Any = facts.resize
        if isinstance(resize, int):
            resize = round(resize * wanted.size / min(facts.size))
        elif resize is not None:
            resize = tuple(round(r * wanted.size / s) for r, s in zip(resize, facts.size, strict=True))
        facts = replace(facts, size=size, resize=resize)
    if wanted.resize is not None:
        if wanted.resize < max(facts.size):
            raise ModelError(
                f"model.preprocessing.resize: got {wanted.resize} pixels, but {max(facts.size)} are then cut out; "
                f"expected {max(facts.size)} or more"
            )
        facts = replace(facts, resize=wanted.resize)
    if wanted.interpolation is not None:
        facts = replace(facts, interpolation=wanted.interpolation)
    if wanted.mean is not None:
        facts = replace(facts, mean=(wanted.mean[0], wanted.mean[1], wanted.mean[2]))
    if wanted.std is not None:
        facts = replace(facts, std=(wanted.std[0], wanted.std[1], wanted.std[2]))
    return facts


def is_checkpoint(reference: str) -> bool:
    """Whether a reference is the folder of an image classifier that tledge trained."""
    facts = _config(Path(place_of(reference))).get("tledge")
    return isinstance(facts, dict) and "backbone" in facts


def _source(reference: str, revision: str | None, weights: str | None) -> Source:
    library, _, name = reference.partition(":")
    if library == "torchvision":
        from tledge.model.backbones import torchvision

        return torchvision.find(name, weights)
    if library == "timm":
        from tledge.model.backbones import timm

        return timm.find(name, weights)
    if weights is not None:
        raise ModelError(
            f"model.weights: is for torchvision: and timm: backbones, but {reference!r} brings its own; remove the key"
        )
    folder = Path(place_of(reference))
    config = _config(folder)
    if isinstance(config.get("tledge"), dict):
        return _of_checkpoint(folder, config)
    from tledge.model.backbones import transformers_image

    return transformers_image.find(reference, revision)


def _of_checkpoint(folder: Path, config: Mapping[str, Any]) -> Source:
    """The classifier that an earlier run of tledge trained."""
    backbone = config["tledge"].get("backbone")
    if not isinstance(backbone, dict):
        raise ModelError(f"model.backbone: {folder} is a checkpoint of texts; expected one of images")
    try:
        facts = read_config(folder)
    except BundleError as error:
        raise ModelError(f"model.backbone: {error}") from error
    library, name = backbone["library"], backbone["name"]
    own_config = {k: v for k, v in config.items() if k != "tledge"} if library == "transformers" else None
    build = _builder(library, name, own_config)

    def state(_size: tuple[int, int]) -> Mapping[str, Tensor]:
        return weight_files.read(str(folder / WEIGHTS))

    return Source(library, name, facts, build, state, own_config)


def _builder(library: str, name: str, own_config: Any) -> Callable[[tuple[int, int]], nn.Module]:
    if library == "torchvision":
        from tledge.model.backbones import torchvision

        return lambda _size: torchvision.build(name)
    if library == "timm":
        from tledge.model.backbones import timm

        return partial(timm.build, name, own=timm.own_size(name))
    from tledge.model.backbones import transformers_image

    return transformers_image.of_config(own_config)


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _take_off(module: nn.Module, reference: str, size: tuple[int, int], own: tuple[int, int]) -> LastLayer:
    sample = torch.randn((1, 3, *size), generator=torch.Generator().manual_seed(0))
    try:
        return take_off(module, sample)
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())[:150]
        raise ModelError(
            f"model.preprocessing.size: {reference} does not take images of {size[0]} x {size[1]} pixels "
            f"({reason}); its own size is {own[0]} x {own[1]}"
        ) from error
