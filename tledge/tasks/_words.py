"""What all tasks share that read one text of any length and answer each of its words."""

from __future__ import annotations

from tledge.tasks._text import *
from tledge.tasks._text import __all__ as _shared

__all__ = [*(name for name in _shared if name != "records")]

INPUT = "words"
OPTIMUM_TASK = "token-classification"
STARTER = "words"
PER_TOKEN = True
