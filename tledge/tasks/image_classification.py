"""Image classification: each image has exactly one label."""

from tledge.tasks._image import *
from tledge.tasks._image import STRATEGIES as _STRATEGIES
from tledge.tasks._single_label import *

STRATEGIES = (*_STRATEGIES, "few_shot", "zero_shot")
ZERO_SHOT = ("clip",)
