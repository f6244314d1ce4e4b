"""Labelled rows from the user's files to four disjoint splits on disk."""

from tledge.data.load import DataReport, Splits, load, open_splits
from tledge.data.look import Preview, look

__all__ = ["DataReport", "Preview", "Splits", "load", "look", "open_splits"]
