"""Multi-label text classification: each text has any number of labels, none included."""

from tledge.tasks._multi_label import *
from tledge.tasks._text import *
