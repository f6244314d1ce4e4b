"""The part of a context that answers a question about it, or that there is none."""

from tledge.tasks._answers import *
from tledge.tasks._question import *
