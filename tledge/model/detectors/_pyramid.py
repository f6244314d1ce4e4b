"""A light feature pyramid (Lin et al. 2017) on the maps of a body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tledge.model.detectors._body import Map


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a pyramid: height and width of its map, and how many pixels of the image one of it stands for."""

    height: int
    width: int
    stride: int


class Pyramid(nn.Module):
    """Maps of one width from those of a body: a way from the top down, and coarser ones on top.

    Args:
        maps: those of the body, the finest first.
        width: channels of each map that comes out.
        size: height and width of the image; levels are added until the last one is for objects of its size.
    """

    def __init__(self, maps: Sequence[Map], width: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.levels = [Level(each.height, each.width, each.stride) for each in maps]
        self.lateral = nn.ModuleList(_layer(each.channels, width, 1) for each in maps)
        self.smooth = nn.ModuleList(_layer(width, width, 3, active=True) for _ in maps)
        self.extra = nn.ModuleList()
        while 8 * self.levels[-1].stride < max(size) and min(self.levels[-1].height, self.levels[-1].width) > 1:
            self.extra.append(_layer(width, width, 3, stride=2, active=True))
            last = self.levels[-1]
            self.levels.append(Level((last.height + 1) // 2, (last.width + 1) // 2, 2 * last.stride))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map a level, `(batch, width, rows, columns)`, of the body's, `(batch, channels, rows, columns)`."""
        sides = [layer(each) for layer, each in zip(self.lateral, maps, strict=True)]
        for i in range(len(sides) - 2, -1, -1):
            level = self.levels[i]
            sides[i] = sides[i] + F.interpolate(sides[i + 1], size=(level.height, level.width), mode="nearest")
        found = [layer(each) for layer, each in zip(self.smooth, sides, strict=True)]
        for layer in self.extra:
            found.append(layer(found[-1]))
        return found


def centres(levels: Sequence[Level], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Where each place of all levels is in the image, `(places, 2)`, x before y, and its stride, `(places,)`.

    Both are float32, of the levels in their order and of each row by row. Where sides are no multiples of the stride,
    places are spread evenly over the image.
    """
    points, strides = [], []
    for level in levels:
        down = (torch.arange(level.height) + 0.5) * (size[0] / level.height)
        across = (torch.arange(level.width) + 0.5) * (size[1] / level.width)
        y, x = torch.meshgrid(down, across, indexing="ij")
        points.append(torch.stack([x, y], -1).flatten(0, 1))
        strides.append(torch.full((level.height * level.width,), float(level.stride)))
    return torch.cat(points), torch.cat(strides)


def flat(maps: Sequence[Tensor], parts: int) -> Tensor:
    """What a head gave for all places, `(batch, places * n, parts)`, of maps `(batch, n * parts, rows, columns)`."""
    return torch.cat([_by_place(each, parts) for each in maps], 1)


def _by_place(features: Tensor, parts: int) -> Tensor:
    batch, channels, height, width = features.shape
    parted = features.reshape(batch, channels // parts, parts, height, width)
    return parted.permute(0, 3, 4, 1, 2).reshape(batch, height * width * (channels // parts), parts)


def _layer(inputs: int, outputs: int, kernel_size: int, *, stride: int = 1, active: bool = False) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel_size, stride, kernel_size // 2, bias=False)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    layers = [conv, nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, nn.ReLU()) if active else nn.Sequential(*layers)
