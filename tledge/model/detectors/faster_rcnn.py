"""Faster R-CNN (Ren et al. 2015) on a feature pyramid: proposals first, and then what is in each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign

from tledge.model.backbones.image import ImageBackbone
from tledge.model.detectors._body import Map
from tledge.model.detectors._detector import Made, OnBody
from tledge.model.detectors._one_stage import pyramid_on
from tledge.model.detectors._pyramid import Level
from tledge.model.detectors._two_stage import PROPOSALS, TwoStage

RATIOS = (0.5, 1.0, 2.0)
SIDE = 4
"""Strides that the square anchor of a level is wide."""
POOLED = 7
"""A side of what is looked at of a proposal."""
HIDDEN = 4
"""The two hidden layers on a proposal are so many times as wide as the maps."""
SAMPLED = 128
"""Proposals of an image that are learnt from, and twice as many anchors."""


class FasterRCNN(TwoStage, OnBody):
    """The detector; see the module's first line."""

    def __init__(self, backbone: ImageBackbone, made: Made, maps: Sequence[Map], layers: nn.Module) -> None:
        """As `OnBody`; `layers` are `pyramid`, `rpn` and `roi_heads`."""
        OnBody.__init__(self, backbone, made, maps, layers)

    @property
    def rpn(self) -> RegionProposalNetwork:
        """What proposes."""
        return self.classifier["rpn"]  # type: ignore[index]

    @property
    def roi_heads(self) -> RoIHeads:
        """What looks into proposals."""
        return self.classifier["roi_heads"]  # type: ignore[index]

    def maps_of_image(self, pixel_values: Tensor) -> list[Tensor]:
        """See `TwoStage.maps_of_image`."""
        return self.classifier["pyramid"](self.features(pixel_values))  # type: ignore[index]


def make(backbone: ImageBackbone, made: Made) -> FasterRCNN:
    """The detector on a backbone, in eval mode."""
    maps, pyramid, width = pyramid_on(backbone, made.width or None)
    layers = {
        "pyramid": pyramid,
        "rpn": _proposing(pyramid.levels, width),
        "roi_heads": _looking(len(pyramid.levels), width, len(made.labels)),
    }
    return FasterRCNN(backbone, replace(made, width=width), maps, nn.ModuleDict(layers)).eval()


def _proposing(levels: Sequence[Level], width: int) -> RegionProposalNetwork:
    generator = AnchorGenerator(tuple((SIDE * level.stride,) for level in levels), (RATIOS,) * len(levels))
    per_place = generator.num_anchors_per_location()[0]
    counts = {
        "pre_nms_top_n": dict.fromkeys(("training", "testing"), PROPOSALS.per_image),
        "post_nms_top_n": dict.fromkeys(("training", "testing"), PROPOSALS.max_detections),
    }
    return RegionProposalNetwork(
        generator,
        RPNHead(width, per_place),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=2 * SAMPLED,
        positive_fraction=0.5,
        nms_thresh=PROPOSALS.iou_threshold,
        **counts,
    )


def _looking(levels: int, width: int, n_labels: int) -> RoIHeads:
    hidden = HIDDEN * width
    return RoIHeads(
        MultiScaleRoIAlign([str(i) for i in range(levels)], POOLED, 2),
        TwoMLPHead(width * POOLED**2, hidden),
        FastRCNNPredictor(hidden, n_labels + 1),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=SAMPLED,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=0.05,
        nms_thresh=0.5,
        detections_per_img=100,
    )
