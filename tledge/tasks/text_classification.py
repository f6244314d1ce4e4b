"""Text classification: each text has exactly one label."""

from tledge.tasks._single_label import *
from tledge.tasks._text import *
