from contextlib import contextmanager

import numpy as np
import pytest

from tledge import tasks
from tledge.evaluate import joined, score
from tledge.inputs._one_pass import OnePass

TEXTS = ["aa", "b", "cccc", "d", "eee"]
TARGETS = np.array([1, 0, 1, 0, 0])


class Lengths(OnePass):
    """Encodes a text as its length, padded to the longest text of the batch."""

    def __init__(self):
        self.batches = []

    def encode(self, values):
        self.batches.append(list(values))
        widest = max(map(len, values))
        return {"input_ids": np.array([[1] * len(v) + [0] * (widest - len(v)) for v in values])}


def run(feeds):
    """Label 1 where a text has more than one character."""
    lengths = feeds["input_ids"].sum(axis=1)
    return {"logits": np.stack([np.full(len(lengths), 1.5), lengths], axis=1).astype(np.float32)}


def test_scores_every_row_once_and_in_order():
    result = score(run, Lengths(), TEXTS, TARGETS, tasks.load("text_classification"))
    assert result.task.predictions(result.records).tolist() == [1, 0, 1, 0, 1]
    assert result.records["logits"][:, 1].tolist() == [2, 1, 4, 1, 3]
    assert result.metrics["accuracy"] == pytest.approx(4 / 5)


def test_runs_one_row_at_a_time_unless_asked_otherwise():
    alone, batched = Lengths(), Lengths()
    task = tasks.load("text_classification")
    first = score(run, alone, TEXTS, TARGETS, task)
    second = score(run, batched, TEXTS, TARGETS, task, batch_size=2)
    assert [len(batch) for batch in alone.batches] == [1, 1, 1, 1, 1]
    assert [len(batch) for batch in batched.batches] == [2, 2, 1]
    np.testing.assert_array_equal(first.records["logits"], second.records["logits"])
    assert first.metrics == second.metrics


def test_progress_hears_of_every_row():
    heard = []

    @contextmanager
    def progress(description, total):
        heard.append((description, total))
        yield heard.append

    task = tasks.load("text_classification")
    score(run, Lengths(), TEXTS, TARGETS, task, batch_size=2, progress=progress, description="Looking")
    assert heard == [("Looking", 5), 2, 2, 1]


def test_rows_of_different_lengths_are_padded_behind_and_others_left_alone():
    short, long = np.ones((2, 1, 3), np.int64), np.ones((1, 2, 3), np.int64)
    both = joined([short, long])
    assert both.shape == (3, 2, 3)
    assert both[:2, 1].tolist() == [[-1] * 3] * 2
    assert (both[2] == 1).all()
    assert joined([np.zeros(2), np.ones(1)]).tolist() == [0, 0, 1]
    assert joined([np.zeros((1, 1, 2)), np.ones((1, 2, 1))]).tolist() == [[[0, 0], [-1, -1]], [[1, -1], [1, -1]]]
