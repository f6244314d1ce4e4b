"""Boxes and scores of a detector to its detections: the best of each object, padded to one number for each image."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from tledge.inputs._suppression import Suppression


def suppressed(boxes: Tensor, scores: Tensor, how: Suppression) -> dict[str, Tensor]:
    """The detections of each image, best first.

    Args:
        boxes: `(batch, places, 4) float32`, or `(batch, places, labels, 4)` where each label has a box of its own.
        scores: `(batch, labels, places) float32`, from 0 to 1.
        how: which count, and which are of the same object; without `iou_threshold` none are.

    Returns:
        `boxes` `(batch, max_detections, 4) float32`, `scores` `(batch, max_detections) float32`, 0 in padding, and
        `labels` `(batch, max_detections) int64`, -1 in padding.
    """
    size = how.max_detections
    found = {
        "boxes": boxes.new_zeros(len(boxes), size, 4),
        "scores": scores.new_zeros(len(boxes), size),
        "labels": torch.full((len(boxes), size), -1, dtype=torch.int64, device=boxes.device),
    }
    for i in range(len(boxes)):
        score, label, box = _of_image(boxes[i], scores[i], how)
        found["boxes"][i, : len(box)] = box
        found["scores"][i, : len(box)] = score
        found["labels"][i, : len(box)] = label
    return found


def _of_image(boxes: Tensor, scores: Tensor, how: Suppression) -> tuple[Tensor, Tensor, Tensor]:
    label, place = torch.nonzero(scores > how.score_threshold, as_tuple=True)
    score = scores[label, place]
    order = torch.argsort(score, descending=True, stable=True)[: how.per_image]
    score, label, place = score[order], label[order], place[order]
    box = boxes[place] if boxes.ndim == 2 else boxes[place, label]
    if how.iou_threshold is not None:
        kept = batched_nms(box.float(), score.float(), label, how.iou_threshold)
        score, label, box = score[kept], label[kept], box[kept]
    size = how.max_detections
    return score[:size], label[:size], box[:size]
