"""Faster R-CNN (Ren et al. 2015) step by step, with torchvision's layers: proposals, and what is in them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import batched_nms, roi_align

from tledge.inputs._suppression import Suppression
from tledge.model.detectors._anchors import decoded
from tledge.model.detectors._detector import Detector
from tledge.model.detectors._suppress import suppressed
from tledge.model.detectors._targets import Truth

PROPOSALS = Suppression(score_threshold=0.0, iou_threshold=0.7, max_detections=300, per_image=1000)
"""Which boxes are looked into: of each level the best, and where two of the same level overlap, the better one. Scores
are what `sureness` gives."""
SMALLEST = 1e-3, 1e-2
"""Pixels that a proposal and a detection are wide and high at least, as torchvision has it; others lie outside."""


class TwoStage(Detector):
    """A detector that looks into proposals; a subclass has `maps_of_image`, `rpn` and `roi_heads`.

    Boxes that are ignored count as nothing there where it trains.
    """

    rpn: RegionProposalNetwork
    roi_heads: RoIHeads
    stages = 2
    proposal_suppression = PROPOSALS

    def maps_of_image(self, pixel_values: Tensor) -> list[Tensor]:
        """The maps of all levels, the finest first, `(batch, channels, height, width)` each."""
        raise NotImplementedError

    def proposals(self, pixel_values: Tensor) -> dict[str, Any]:
        """Where something may be, without branches.

        Args:
            pixel_values: `(batch, 3, height, width) float32`.

        Returns:
            `maps` as `maps_of_image` gives them; `boxes` `(batch, places, 4)` in pixels of the input; `scores`
            `(batch, 1, places)` as `sureness` has them, and 0 of a box without area; and `levels` `(places,) int64`,
            the map that each place is of, those of a map together.
        """
        maps = self.maps_of_image(pixel_values)
        logits, deltas = self.rpn.head(maps)
        anchors, levels = self._anchors(pixel_values, maps)
        flat_deltas = torch.cat([_by_place(each, 4) for each in deltas], 1)
        scores = torch.cat([_by_place(each, 1) for each in logits], 1)[..., 0]
        boxes = decoded(flat_deltas, anchors, self.size, self.rpn.box_coder.weights)
        there = _wide_as(boxes, SMALLEST[0])
        return {"maps": maps, "boxes": boxes, "scores": (sureness(scores) * there)[:, None], "levels": levels}

    def chosen(self, found: Mapping[str, Any]) -> list[dict[str, Tensor]]:
        """What is looked into of each image.

        Args:
            found: what `proposals` gives.

        Returns:
            For each image `boxes` `(n, 4)`, `scores` `(n,)` and `labels` `(n,) int64`, the levels, best first.
        """
        return [
            self._chosen(boxes, scores[0], found["levels"])
            for boxes, scores in zip(found["boxes"], found["scores"], strict=True)
        ]

    def regions(self, maps: Sequence[Tensor], rois: Tensor) -> dict[str, Tensor]:
        """What is in some boxes.

        Args:
            maps: as `proposals` gives them.
            rois: `(n, 5) float32`: the number of the image in the batch, and the box in pixels of the input.

        Returns:
            `boxes` `(n, labels, 4)`, one for each label, and `scores` `(n, labels)` from 0 to 1, 0 without area.
        """
        pooled = self._pooled(maps, rois)
        logits, deltas = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
        parted = deltas.unflatten(1, (-1, 4))
        boxes = decoded(parted, rois[:, None, 1:], self.size, self.roi_heads.box_coder.weights)
        boxes, scores = boxes[:, 1:], logits.softmax(-1)[:, 1:]  # the first is for nothing
        return {"boxes": boxes, "scores": scores * _wide_as(boxes, SMALLEST[1])}

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """See `Detector.forward`."""
        found = self.proposals(pixel_values)
        return self.looked(found["maps"], [each["boxes"] for each in self.chosen(found)])

    def looked(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> dict[str, Tensor]:
        """The detections of each image, as `forward` gives them.

        Args:
            maps: as `proposals` gives them.
            boxes: what is looked into of each image, `(n, 4)`.
        """
        numbered = torch.cat([torch.cat([torch.full_like(each[:, :1], i), each], 1) for i, each in enumerate(boxes)])
        inside = self.regions(maps, numbered)
        counts = [len(each) for each in boxes]
        parts = zip(torch.split(inside["boxes"], counts), torch.split(inside["scores"], counts), strict=True)
        each_image = [suppressed(boxes[None], scores.T[None], self.suppression) for boxes, scores in parts]
        return {name: torch.cat([each[name] for each in each_image]) for name in each_image[0]}

    def losses(self, pixel_values: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """See `Detector.losses`: of proposals and of what is in them, each of labels and boxes."""
        maps = {str(i): each for i, each in enumerate(self.maps_of_image(pixel_values))}
        shapes = [self.size] * len(pixel_values)
        truths = [Truth.of(each) for each in targets]
        wanted = [{"boxes": each.boxes, "labels": each.labels + 1} for each in truths]
        with _training(self.rpn, self.roi_heads):
            boxes, of_proposals = self.rpn(ImageList(pixel_values, shapes), maps, wanted)
            _, of_regions = self.roi_heads(maps, boxes, shapes, wanted)
        return {**of_proposals, **of_regions}

    def answers(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """As `Detector.answers`: proposals, and what is in a few fixed boxes."""
        found = self.proposals(pixel_values)
        height, width = self.size
        rois = found["boxes"].new_tensor([[0, 0, 0, width, height], [0, 0, 0, width / 4, height / 3]])
        inside = self.regions(found["maps"], rois)
        sides = rois.new_tensor([width, height] * 2)
        return {
            "boxes": found["boxes"] / sides,
            "scores": found["scores"],
            "inside": (inside["boxes"] / sides).flatten().expand(len(pixel_values), -1),
            "inside_scores": inside["scores"].flatten().expand(len(pixel_values), -1),
        }

    def _chosen(self, boxes: Tensor, scores: Tensor, levels: Tensor) -> dict[str, Tensor]:
        """What is looked into of one image, as `chosen` has it."""
        how = self.proposal_suppression
        best = torch.cat([_best(scores, levels == level, how.per_image) for level in range(int(levels.max()) + 1)])
        best = best[scores[best] > how.score_threshold]
        assert how.iou_threshold is not None
        kept = batched_nms(boxes[best].float(), scores[best].float(), levels[best], how.iou_threshold)
        told = best[kept[: how.max_detections]]
        return {"boxes": boxes[told], "scores": scores[told], "labels": levels[told]}

    def _anchors(self, pixel_values: Tensor, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The anchors of all places, `(places, 4)`, and the level of each, which an input's one size decides."""
        kept = self.__dict__.setdefault("_made_anchors", {})
        device = pixel_values.device
        if device not in kept:
            blank = [each.new_zeros(1, 1, *each.shape[2:]) for each in maps]
            image = ImageList(pixel_values.new_zeros(1, 3, *self.size), [self.size])
            (anchors,) = self.rpn.anchor_generator(image, blank)
            per_place = self.rpn.anchor_generator.num_anchors_per_location()
            counts = [each.shape[2] * each.shape[3] * n for each, n in zip(maps, per_place, strict=True)]
            levels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).to(device)
            kept[device] = (anchors.detach(), levels)
        found: tuple[Tensor, Tensor] = kept[device]
        return found

    def _pooled(self, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        """What each box covers of the level for its size (Lin et al. 2017, equation 1), `(n, channels, 7, 7)`.

        All levels are looked at and one is taken, which an export needs no branch for.
        """
        pool = self.roi_heads.box_roi_pool
        used = maps[: len(pool.featmap_names)]
        scales = [each.shape[2] / self.size[0] for each in used]
        sides = (rois[:, 3:] - rois[:, 1:3]).clamp(min=0).prod(-1).sqrt()
        lowest = -round(math.log2(scales[0]))
        level = (pool.canonical_level + torch.log2(sides / pool.canonical_scale + 1e-6)).floor() - lowest
        level = level.clamp(0, len(used) - 1)
        found = rois.new_zeros(())
        for i, (each, scale) in enumerate(zip(used, scales, strict=True)):
            part = roi_align(each, rois, pool.output_size, 2.0 ** round(math.log2(scale)), 2)
            found = found + part * (level == i)[:, None, None, None]
        return found


def sureness(logits: Tensor) -> Tensor:
    """Numbers from 0 to 1 in the order of logits, which no large logits make equal.

    Of probabilities near 0 and 1 rounding leaves no order, and onnxruntime's `Sigmoid` none beyond logits of 18: then
    of many a proposal it would be left to chance which are looked into.
    """
    rest = 0.5 / (1 + logits.abs())
    return torch.where(logits > 0, 1 - rest, rest)


def _wide_as(boxes: Tensor, side: float) -> Tensor:
    """Which boxes, `(..., 4)`, are so wide and high at least."""
    return ((boxes[..., 2:] - boxes[..., :2]) >= side).all(-1)


def _best(scores: Tensor, of: Tensor, most: int) -> Tensor:
    """The places of the best of some scores, best first."""
    places = torch.nonzero(of)[:, 0]
    return places[scores[places].argsort(descending=True, stable=True)[:most]]


def _by_place(features: Tensor, parts: int) -> Tensor:
    batch, channels, height, width = features.shape
    parted = features.reshape(batch, channels // parts, parts, height, width)
    return parted.permute(0, 3, 4, 1, 2).reshape(batch, height * width * (channels // parts), parts)


@contextmanager
def _training(*modules: nn.Module) -> Iterator[None]:
    """The modules' own flags say that they train, so that they give losses; not those of layers in them."""
    before = [module.training for module in modules]
    for module in modules:
        module.training = True
    try:
        yield
    finally:
        for module, mode in zip(modules, before, strict=True):
            module.training = mode
