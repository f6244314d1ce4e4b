"""What all tasks share that read a question and a context of any length."""

from __future__ import annotations

from tledge.tasks._text import *
from tledge.tasks._text import __all__ as _shared

__all__ = [*(name for name in _shared if name != "records")]

INPUT = "question"
INPUT_COLUMNS = ("question", "context")
OPTIMUM_TASK = "question-answering"
STARTER = "question"
PER_TOKEN = True
