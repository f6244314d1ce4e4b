"""Text classification: each text has exactly one label."""

from tledge.tasks._single_label import *
from tledge.tasks._text import *
from tledge.tasks._text import STRATEGIES as _STRATEGIES

STRATEGIES = (*_STRATEGIES, "few_shot", "zero_shot")
ZERO_SHOT = ("similarity",)
