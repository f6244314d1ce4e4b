"""Detectors of one stage: a pyramid on the body, and towers that all its levels share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tledge.model.backbones.image import ImageBackbone
from tledge.model.detectors._body import Map, maps_of
from tledge.model.detectors._by_level import ByLevel
from tledge.model.detectors._detector import OnBody
from tledge.model.detectors._pyramid import Pyramid

DEPTH = 2
"""Convolutions of a tower: half of the four of the papers, whose detectors are not made for small devices."""
MOST_WIDTH = 256
"""Channels between body and outputs at most: those of the papers."""
PRIOR = 0.01
"""What an untrained detector takes the probability of an object at a place for (Lin et al. 2017, section 4.1)."""


class DenseHead(Protocol):
    """What a kind of detector makes of the maps of all levels."""

    def __call__(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """Outputs by name, places first behind the batch, of maps `(batch, width, height, width)`."""

    def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`boxes` and `scores` as `Detector.raw` gives them."""

    def losses(self, outputs: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Losses by name; `targets` as for `Detector.losses`."""


class OneStage(OnBody):
    """A detector whose boxes come from every place of a pyramid at once."""

    def raw(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """See `Detector.raw`; without branches, for export."""
        layers: Any = self.classifier
        return layers.head.decode(self._outputs(pixel_values))

    def losses(self, pixel_values: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """See `Detector.losses`."""
        layers: Any = self.classifier
        outputs = {name: each.float() for name, each in self._outputs(pixel_values).items()}
        return layers.head.losses(outputs, targets)

    def _outputs(self, pixel_values: Tensor) -> dict[str, Tensor]:
        layers: Any = self.classifier
        return layers.head(layers.pyramid(self.features(pixel_values)))


class Towers(nn.Module):
    """Two rows of convolutions, one for labels and one for boxes, on the maps of all levels."""

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.labels, self.boxes = (nn.ModuleList(ByLevel(width, width, levels) for _ in range(DEPTH)) for _ in range(2))

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps for the labels and maps for the boxes, of the same shapes."""
        return [_through(self.labels, each, i) for i, each in enumerate(maps)], [
            _through(self.boxes, each, i) for i, each in enumerate(maps)
        ]


def width_for(maps: Sequence[Map]) -> int:
    """Channels between body and outputs: as many as the map of stride 16 has, at most `MOST_WIDTH`."""
    middle = min(maps, key=lambda each: abs(math.log2(each.stride) - 4))
    return min(MOST_WIDTH, max(32, -(-middle.channels // 8) * 8))


def pyramid_on(backbone: ImageBackbone, width: int | None) -> tuple[list[Map], Pyramid, int]:
    """The maps of a backbone, a pyramid on them, and its width."""
    size = backbone.preprocessing.size
    maps = maps_of(backbone.module, size)
    width = width or width_for(maps)
    return maps, Pyramid(maps, width, size), width


def last(inputs: int, outputs: int, *, prior: float | None = None) -> nn.Conv2d:
    """The convolution that ends a tower, whose first answers are small; with `prior` they are that probability."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.normal_(conv.weight, std=0.01)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, 0.0 if prior is None else -math.log((1 - prior) / prior))
    return conv


def _through(tower: nn.ModuleList, features: Tensor, level: int) -> Tensor:
    for layer in tower:
        features = layer(features, level)
    return features


def number_of(values: Tensor) -> Tensor:
    """How many losses are divided by: the sum of what counts, at least 1."""
    return torch.clamp(values.sum(), min=1.0)
