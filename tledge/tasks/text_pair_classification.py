"""Classification of two texts together, such as whether one follows from the other: exactly one label a pair."""

from tledge.tasks._single_label import *
from tledge.tasks._text_pair import *
from tledge.tasks._text_pair import STRATEGIES as _STRATEGIES

STRATEGIES = (*_STRATEGIES, "few_shot")
