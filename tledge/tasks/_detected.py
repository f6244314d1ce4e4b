"""What all tasks share that read one image and find any number of things in it."""

from __future__ import annotations

from tledge.tasks._detections import KEEP_FLOAT, require_outputs
from tledge.tasks._image import *
from tledge.tasks._image import __all__ as _shared

__all__ = [*(name for name in _shared if name != "records"), "KEEP_FLOAT", "require_outputs"]

INPUT = "boxed_image"
HEAD = "detector"
RUN = "detections"
OUTPUT = "boxes"
OPTIMUM_TASK = "object-detection"
STARTER = "boxed_image"
STRATEGIES: tuple[str, ...] = ("probe", "partial", "full", "probe_then_full", "none")
CALIBRATION_ROWS = 32
