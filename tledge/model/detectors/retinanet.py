"""RetinaNet (Lin et al. 2017): anchors of nine shapes at each place, and a loss that looks away from easy ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from tledge.model.backbones.image import ImageBackbone
from tledge.model.detectors._anchors import anchors, decoded, encoded, shapes_of
from tledge.model.detectors._detector import Made
from tledge.model.detectors._one_stage import PRIOR, OneStage, Towers, last, number_of, pyramid_on
from tledge.model.detectors._pyramid import Level, flat
from tledge.model.detectors._targets import UNSURE, Truth, by_overlap

SIDE = 4
"""Strides that the smallest square anchor of a level is wide."""
SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
RATIOS = (0.5, 1.0, 2.0)
HIGH, LOW = 0.5, 0.4
"""Overlaps from which on an anchor is for a box, and below which it is for none."""
BEND = 1 / 9
"""Where the loss of a box goes from square to straight."""


class RetinaNet(OneStage):
    """The detector; see the module's first line."""


class Head(nn.Module):
    """Towers, and what each anchor tells: labels, and a box relative to it."""

    anchors: Tensor

    def __init__(self, width: int, n_labels: int, levels: Sequence[Level], size: tuple[int, int]) -> None:
        super().__init__()
        self.size, self.n_labels = size, n_labels
        self.towers = Towers(width, len(levels))
        shapes = [
            [shape for scale in SCALES for shape in shapes_of(SIDE * level.stride * scale, RATIOS)] for level in levels
        ]
        each = len(SCALES) * len(RATIOS)
        self.labels = last(width, each * n_labels, prior=PRIOR)
        self.deltas = last(width, each * 4)
        self.register_buffer("anchors", anchors(levels, size, shapes), persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """`logits (batch, anchors, labels)` and `deltas (batch, anchors, 4)`."""
        for_labels, for_boxes = self.towers(maps)
        return {
            "logits": flat([self.labels(each) for each in for_labels], self.n_labels),
            "deltas": flat([self.deltas(each) for each in for_boxes], 4),
        }

    def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Boxes inside the input, and the labels' probabilities."""
        return {
            "boxes": decoded(outputs["deltas"], self.anchors, self.size),
            "scores": outputs["logits"].sigmoid().transpose(1, 2),
        }

    def losses(self, outputs: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Focal loss of the labels, and a smooth one of the boxes."""
        truths = [Truth.of(each) for each in targets]
        chosen = torch.stack([by_overlap(self.anchors, truth, high=HIGH, low=LOW) for truth in truths])
        positive, told = chosen >= 0, chosen != UNSURE
        n_positive = number_of(positive)
        pairs = list(zip(truths, chosen, strict=True))
        labels = torch.zeros_like(outputs["logits"])
        names = torch.cat([truth.labels[each[each >= 0]] for truth, each in pairs])
        labels[positive] = F.one_hot(names, self.n_labels).to(labels.dtype)
        wanted = torch.cat([truth.boxes[each[each >= 0]] for truth, each in pairs])
        deltas = encoded(wanted, self.anchors.expand(len(targets), -1, -1)[positive])
        focal = sigmoid_focal_loss(outputs["logits"][told], labels[told], reduction="sum")
        smooth = F.smooth_l1_loss(outputs["deltas"][positive], deltas, beta=BEND, reduction="sum")
        return {"labels": focal / n_positive, "boxes": smooth / n_positive}


def make(backbone: ImageBackbone, made: Made) -> RetinaNet:
    """The detector on a backbone, in eval mode."""
    maps, pyramid, width = pyramid_on(backbone, made.width or None)
    head = Head(width, len(made.labels), pyramid.levels, backbone.preprocessing.size)
    layers = nn.ModuleDict({"pyramid": pyramid, "head": head})
    return RetinaNet(backbone, replace(made, width=width), maps, layers).eval()
