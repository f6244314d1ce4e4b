"""Variants of a graph: made by schemes, scored and timed like fp32, and chosen within the budget."""

from tledge.quantize.choose import Limits, choose
from tledge.quantize.run import run

__all__ = ["Limits", "choose", "run"]
