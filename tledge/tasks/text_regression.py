"""Text regression: one number for each text."""

from tledge.tasks._regression import *
from tledge.tasks._text import *
