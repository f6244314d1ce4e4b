"""Hints (Romero et al. 2015, FitNets): feature maps inside the student tell the teacher's."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

NEEDS = "feature_maps"
LAYERS = "all"


def loss(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG001
    """The mean squared difference of both feature maps, `(batch,) float32`.

    Where the student has another number of channels, a 1x1 convolution that trains along has brought them to the
    teacher's. Where heights or widths differ, the larger one is averaged down to the smaller.

    Args:
        student: `(batch, channels, height, width)`, float.
        teacher: `(batch, channels, height, width)`, float; height and width may be others.
        mask: images have no padding.
    """
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    ours, theirs = (
        maps if maps.shape[2:] == size else F.adaptive_avg_pool2d(maps, size)
        for maps in (student.float(), teacher.float())
    )
    return (ours - theirs).square().flatten(1).mean(dim=1)
