"""Labelled rows made up for tests, and the text of a CSV file of them."""

from __future__ import annotations

import csv
import io


def labelled(n_rows, labels=("bad", "good"), start=0):
    """Rows `(text, label)` of different texts, the labels in turn."""
    return [(f"text number {i}", labels[i % len(labels)]) for i in range(start, start + n_rows)]


def as_csv(rows, header=("text", "label")):
    """The text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def texts_of(splits):
    """The texts of each split, by its name."""
    names = ("train", "validation", "calibration", "test")
    return {name: list(getattr(splits, name)["text"]) for name in names}
