"""Named entities and other spans of texts, each with one label."""

from tledge.tasks._spans import *
from tledge.tasks._words import *
