"""Rows of a training as tensors: batches are cut from arrays that are made once, on the device where they fit."""

from tledge.batches.augment import Augment
from tledge.batches.columns import Beside, Columns, Values, Views, fits
from tledge.batches.texts import TokenLabels, Tokens, TokenVectors, places, tokenized

__all__ = [
    "Augment",
    "Beside",
    "Columns",
    "TokenLabels",
    "TokenVectors",
    "Tokens",
    "Values",
    "Views",
    "fits",
    "places",
    "tokenized",
]
