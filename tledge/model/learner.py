"""A detector as the training loop takes it: images and boxes to losses, and to detections where it is scored."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

DETECTIONS = "detections"
"""The one output that is scored: `(batch, max_detections, 6) float32`, a box, its score and its label."""


class Learner(nn.Module):
    """The loop's module around a detector, which learns from boxes in its own forward pass."""

    def __init__(self, detector: Any) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, pixel_values: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Losses by name, and in eval mode `detections`.

        Args:
            pixel_values: `(batch, 3, height, width) float32`.
            targets: `(batch, most, 6) float32`, as `Detector.losses` takes them.
        """
        losses: dict[str, Tensor] = dict(self.detector.losses(pixel_values, targets))
        if self.training:
            return losses
        found = self.detector(pixel_values)
        parts = [found["boxes"], found["scores"][..., None], found["labels"][..., None].float()]
        return losses | {DETECTIONS: torch.cat(parts, -1)}
