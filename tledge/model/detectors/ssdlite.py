"""SSDLite (Liu et al. 2016; Sandler et al. 2018, section 6.2): separable layers on maps that shrink step by step.

It is the cheapest detector to run, and the slowest to learn.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tledge.errors import ModelError
from tledge.model.backbones.image import ImageBackbone
from tledge.model.detectors._anchors import anchors, decoded, encoded, shapes_of
from tledge.model.detectors._body import Map, maps_of
from tledge.model.detectors._detector import Made
from tledge.model.detectors._one_stage import OneStage, number_of
from tledge.model.detectors._pyramid import Level, flat
from tledge.model.detectors._targets import UNSURE, Truth, by_overlap

WIDTHS = (512, 256, 256, 128)
"""Channels of the maps on top of the body."""
SMALLEST, LARGEST = 0.2, 0.95
"""Sides of the square anchors of the first and the last level, in shares of the image's."""
RATIOS = (1.0, 2.0, 0.5, 3.0, 1 / 3)
HIGH = 0.5
"""The overlap from which on an anchor is for a box."""
PER_POSITIVE = 3
"""Anchors for nothing that are learnt from for each one that is for a box, those that are most wrong."""
WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""What the four numbers of a box are multiplied with: the reciprocals of SSD's variances."""
MOMENTUM = 0.03


class SSDLite(OneStage):
    """The detector; see the module's first lines."""


class Steps(nn.Module):
    """Maps of the body from stride 16 on, and coarser ones on top, each made of the one before."""

    def __init__(self, maps: Sequence[Map]) -> None:
        super().__init__()
        self.levels = [Level(each.height, each.width, each.stride) for each in maps]
        self.channels = [each.channels for each in maps]
        self.extra = nn.ModuleList()
        for width in WIDTHS:
            last = self.levels[-1]
            if max(last.height, last.width) == 1:
                break
            self.extra.append(_step(self.channels[-1], width))
            self.levels.append(Level((last.height + 1) // 2, (last.width + 1) // 2, 2 * last.stride))
            self.channels.append(width)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """One map for each level."""
        found = list(maps)
        for step in self.extra:
            found.append(step(found[-1]))
        return found


class Head(nn.Module):
    """What each anchor tells: whether it is for nothing or which label, and a box relative to it."""

    anchors: Tensor

    def __init__(self, steps: Steps, n_labels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.size, self.n_labels = size, n_labels
        shapes = _shapes(len(steps.levels), size)
        each = len(shapes[0])
        self.labels = nn.ModuleList(_separable(width, each * (n_labels + 1)) for width in steps.channels)
        self.deltas = nn.ModuleList(_separable(width, each * 4) for width in steps.channels)
        self.register_buffer("anchors", anchors(steps.levels, size, shapes), persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """`logits (batch, anchors, 1 + labels)`, nothing first, and `deltas (batch, anchors, 4)`."""
        labels = [layer(each) for layer, each in zip(self.labels, maps, strict=True)]
        deltas = [layer(each) for layer, each in zip(self.deltas, maps, strict=True)]
        return {"logits": flat(labels, self.n_labels + 1), "deltas": flat(deltas, 4)}

    def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Boxes inside the input, and the labels' probabilities."""
        return {
            "boxes": decoded(outputs["deltas"], self.anchors, self.size, WEIGHTS),
            "scores": outputs["logits"].softmax(-1)[..., 1:].transpose(1, 2),
        }

    def losses(self, outputs: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of positive anchors and of the most wrong others, and a smooth loss of the boxes."""
        truths = [Truth.of(each) for each in targets]
        chosen = torch.stack([by_overlap(self.anchors, truth, high=HIGH, low=HIGH) for truth in truths])
        positive = chosen >= 0
        n_positive = number_of(positive)
        pairs = list(zip(truths, chosen, strict=True))
        names = torch.zeros_like(chosen)
        names[positive] = 1 + torch.cat([truth.labels[each[each >= 0]] for truth, each in pairs])
        wanted = torch.cat([truth.boxes[each[each >= 0]] for truth, each in pairs])
        deltas = encoded(wanted, self.anchors.expand(len(targets), -1, -1)[positive], WEIGHTS)
        entropy = F.cross_entropy(outputs["logits"].flatten(0, 1), names.flatten(), reduction="none").view_as(names)
        others = entropy.detach().masked_fill(positive | (chosen == UNSURE), -1.0)
        rank = others.argsort(1, descending=True).argsort(1)
        learnt = (rank < PER_POSITIVE * positive.sum(1, keepdim=True).clamp(min=1)) & (others >= 0)
        smooth = F.smooth_l1_loss(outputs["deltas"][positive], deltas, reduction="sum")
        return {"labels": entropy[positive | learnt].sum() / n_positive, "boxes": smooth / n_positive}


def make(backbone: ImageBackbone, made: Made) -> SSDLite:
    """The detector on a backbone, in eval mode.

    Raises:
        ModelError: the body gives no map of a sixteenth of the image's sides.
    """
    size = backbone.preprocessing.size
    maps = [each for each in maps_of(backbone.module, size) if each.stride >= 16]
    if not maps:
        raise ModelError("model.detector: ssdlite starts from maps of a sixteenth of the image's sides; use fcos")
    steps = Steps(maps)
    layers = nn.ModuleDict({"pyramid": steps, "head": Head(steps, len(made.labels), size)})
    return SSDLite(backbone, replace(made, width=0), maps, layers).eval()


def _shapes(levels: int, size: tuple[int, int]) -> list[list[tuple[float, float]]]:
    """Widths and heights of the anchors of a place in pixels, for each level: five proportions, and a larger one."""
    step = (LARGEST - SMALLEST) / max(1, levels - 1)
    sides = [SMALLEST + step * i for i in range(levels)] + [1.0]
    shares = [[*shapes_of(side, RATIOS), ((side * after) ** 0.5,) * 2] for side, after in itertools.pairwise(sides)]
    return [[(width * size[1], height * size[0]) for width, height in level] for level in shares]


def _step(inputs: int, outputs: int) -> nn.Sequential:
    """Half as many channels, half the sides, and the channels that come out."""
    half = outputs // 2
    return nn.Sequential(
        *_active(inputs, half, 1), *_active(half, half, 3, stride=2, groups=half), *_active(half, outputs, 1)
    )


def _separable(inputs: int, outputs: int) -> nn.Sequential:
    end = nn.Conv2d(inputs, outputs, 1)
    nn.init.normal_(end.weight, std=0.03)
    return nn.Sequential(*_active(inputs, inputs, 3, groups=inputs), end)


def _active(inputs: int, outputs: int, kernel_size: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs, momentum=MOMENTUM), nn.ReLU6()]
