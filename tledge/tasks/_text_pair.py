"""What all tasks share that read two texts together and give one row of logits."""

from __future__ import annotations

from tledge.tasks._text import *
from tledge.tasks._text import __all__ as _shared

__all__ = [*_shared]

INPUT = "text_pair"
INPUT_COLUMNS = ("text", "text_pair")
