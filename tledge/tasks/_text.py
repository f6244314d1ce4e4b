"""What all tasks share that read one text and give one row of logits."""

from __future__ import annotations

from tledge.tasks._logits import *
from tledge.tasks._logits import STRATEGIES as _STRATEGIES
from tledge.tasks._logits import __all__ as _shared

__all__ = [
    "BACKBONES", "CALIBRATION_ROWS", "HAS_LENGTH", "INPUT", "INPUT_COLUMNS", "LAYERED", "OPTIMUM_TASK", "SCHEMES",
    "STARTER", "STRATEGIES", *_shared,
]  # fmt: skip

INPUT = "text"
STRATEGIES = (*_STRATEGIES, "lora")
INPUT_COLUMNS: tuple[str, ...] = ("text",)
OPTIMUM_TASK = "text-classification"
SCHEMES = ("int8_dynamic", "fp16")
CALIBRATION_ROWS = 0
STARTER = "text"
BACKBONES = "text"
HAS_LENGTH = True
LAYERED = True
