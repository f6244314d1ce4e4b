"""What all tasks share that read one image and give one row of logits."""

from __future__ import annotations

from tledge.tasks._logits import *
from tledge.tasks._logits import __all__ as _shared

__all__ = [
    "BACKBONES", "CALIBRATION_ROWS", "HAS_LENGTH", "INPUT", "INPUT_COLUMNS", "LAYERED", "OPTIMUM_TASK", "SCHEMES",
    "STARTER", *_shared,
]  # fmt: skip

INPUT = "image"
INPUT_COLUMNS: tuple[str, ...] = ("image",)
OPTIMUM_TASK = "image-classification"
SCHEMES = ("int8_static",)
CALIBRATION_ROWS = 100
STARTER = "image"
BACKBONES = "image"
HAS_LENGTH = False
LAYERED = False
