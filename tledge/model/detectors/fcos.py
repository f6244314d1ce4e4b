"""FCOS (Tian et al. 2019): each place tells how far the four sides of its object are, and how near its middle is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from tledge.model.backbones.image import ImageBackbone
from tledge.model.detectors._detector import Made
from tledge.model.detectors._one_stage import PRIOR, OneStage, Towers, last, number_of, pyramid_on
from tledge.model.detectors._pyramid import Level, centres, flat
from tledge.model.detectors._targets import NOTHING, UNSURE, Truth

RADIUS = 1.5
"""Strides from the middle of an object within which a place is for it."""
NEAREST, FARTHEST = 4, 8
"""A level is for objects whose farthest side is so many of its strides away; the first and last take all others."""


class FCOS(OneStage):
    """The detector; see the module's first line."""


class Head(nn.Module):
    """Towers, and what each place tells: labels, distances and nearness to the middle (`centerness`)."""

    points: Tensor
    strides: Tensor
    limits: Tensor

    def __init__(self, width: int, n_labels: int, levels: Sequence[Level], size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.towers = Towers(width, len(levels))
        self.labels = last(width, n_labels, prior=PRIOR)
        self.distances, self.middle = last(width, 4), last(width, 1)
        self.scales = nn.Parameter(torch.ones(len(levels)))
        points, strides = centres(levels, size)
        low, high = strides * NEAREST, strides * FARTHEST
        low = low.where(strides > strides.min(), torch.zeros(()))
        high = high.where(strides < strides.max(), torch.full((), torch.inf))
        for name, each in (("points", points), ("strides", strides), ("limits", torch.stack([low, high], -1))):
            self.register_buffer(name, each, persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """`logits (batch, places, labels)`, `distances (batch, places, 4)` in strides, `middle (batch, places)`."""
        for_labels, for_boxes = self.towers(maps)
        scaled = [self.distances(each) * scale for each, scale in zip(for_boxes, self.scales, strict=True)]
        return {
            "logits": flat([self.labels(each) for each in for_labels], self.labels.out_channels),
            "distances": F.softplus(flat(scaled, 4)),
            "middle": flat([self.middle(each) for each in for_boxes], 1)[..., 0],
        }

    def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Boxes inside the input; a score is the geometric mean of a label's probability and of the nearness."""
        boxes = self._boxes(outputs["distances"])
        height, width = self.size
        most = boxes.new_tensor([width, height, width, height])
        probability = outputs["logits"].sigmoid() * outputs["middle"].sigmoid()[..., None]
        return {
            "boxes": torch.minimum(boxes.clamp(min=0), most),
            "scores": probability.sqrt().transpose(1, 2),
        }

    def losses(self, outputs: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Focal loss of the labels, generalised overlap of the boxes, and cross-entropy of the nearness."""
        truths = [Truth.of(each) for each in targets]
        chosen = torch.stack([self._chosen(truth) for truth in truths])
        positive = chosen >= 0
        n_positive = number_of(positive)
        labels = torch.zeros_like(outputs["logits"])
        wanted = torch.cat([truth.boxes[each[each >= 0]] for truth, each in zip(truths, chosen, strict=True)])
        names = torch.cat([truth.labels[each[each >= 0]] for truth, each in zip(truths, chosen, strict=True)])
        labels[positive] = F.one_hot(names, labels.shape[-1]).to(labels.dtype)
        told = chosen != UNSURE
        focal = sigmoid_focal_loss(outputs["logits"][told], labels[told], reduction="sum") / n_positive
        nearness = self._nearness(wanted, self.points.expand(len(targets), -1, -1)[positive])
        overlap = generalized_box_iou_loss(self._boxes(outputs["distances"])[positive], wanted, reduction="none")
        middle = F.binary_cross_entropy_with_logits(outputs["middle"][positive], nearness, reduction="sum")
        return {
            "labels": focal,
            "boxes": (overlap * nearness).sum() / number_of(nearness),
            "middle": middle / n_positive,
        }

    def _boxes(self, distances: Tensor) -> Tensor:
        """Boxes `(batch, places, 4)` in pixels, of distances in strides to the left, top, right and bottom."""
        pixels = distances * self.strides[:, None]
        return torch.cat([self.points - pixels[..., :2], self.points + pixels[..., 2:]], -1)

    def _chosen(self, truth: Truth) -> Tensor:
        """The number of the box that each place is for, `(places,)`, of several the smallest; else as `by_overlap`."""
        nothing = torch.full((len(self.points),), NOTHING, device=self.points.device)
        if len(truth.boxes):
            reach = torch.cat(
                [self.points[:, None] - truth.boxes[:, :2], truth.boxes[:, 2:] - self.points[:, None]], -1
            )
            middles = (truth.boxes[:, :2] + truth.boxes[:, 2:]) / 2
            near = (self.points[:, None] - middles).abs().amax(-1) < RADIUS * self.strides[:, None]
            farthest = reach.amax(-1)
            fits = (farthest >= self.limits[:, :1]) & (farthest < self.limits[:, 1:])
            area = (truth.boxes[:, 2:] - truth.boxes[:, :2]).prod(-1).expand(len(self.points), -1)
            smallest, best = area.where(near & fits & (reach.amin(-1) > 0), area.new_tensor(torch.inf)).min(1)
            nothing = best.where(smallest.isfinite(), nothing)
        return nothing.where((nothing >= 0) | ~truth.ignores(self.points), nothing.new_tensor(UNSURE))

    @staticmethod
    def _nearness(boxes: Tensor, points: Tensor) -> Tensor:
        """How near places are to the middles of their boxes, 1 there and 0 at a side (equation 3 of the paper)."""
        before, behind = points - boxes[:, :2], boxes[:, 2:] - points
        ratio = torch.minimum(before, behind) / torch.maximum(before, behind).clamp(min=1e-6)
        return ratio.clamp(min=0).prod(-1).sqrt()


def make(backbone: ImageBackbone, made: Made) -> FCOS:
    """The detector on a backbone, in eval mode."""
    maps, pyramid, width = pyramid_on(backbone, made.width or None)
    size = backbone.preprocessing.size
    head = Head(width, len(made.labels), pyramid.levels, size)
    layers = nn.ModuleDict({"pyramid": pyramid, "head": head})
    return FCOS(backbone, replace(made, width=width), maps, layers).eval()
