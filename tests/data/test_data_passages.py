"""Shared passages of token streams, against a search of every place."""

import numpy as np
import pytest

from tledge.data import passages


def streams():
    rng = np.random.default_rng(6)
    return rng.integers(0, 50000, 700, dtype=np.int32), rng.integers(0, 50000, 3000, dtype=np.int32)


@pytest.mark.parametrize("step", [7, 100, 1 << 21])
@pytest.mark.parametrize("length", [1, 5, 64])
def test_shared_passages_are_found_wherever_they_stand(step, length, monkeypatch):
    monkeypatch.setattr(passages, "STEP", step)
    monkeypatch.setattr(passages, "LENGTH", length)
    one, other = streams()
    other[1003:1203] = one[128:328]  # at another place of its passages
    other[-90:] = one[:90]
    wanted = {one[i : i + length].tobytes() for i in range(0, len(one) - length + 1, length)}
    expected = [i for i in range(len(other) - length + 1) if other[i : i + length].tobytes() in wanted]
    assert passages.shared(other, passages.held(one)).tolist() == expected
    assert expected
    assert len(passages.held(one)) == len(wanted)


def test_different_texts_share_nothing():
    one, other = streams()
    assert passages.shared(other, passages.held(one)).size == 0
    other[500:563] = one[64:127]  # one token too few
    assert passages.shared(other, passages.held(one)).size == 0
    other[563] = one[127]
    assert passages.shared(other, passages.held(one)).tolist() == [500]


def test_the_order_of_tokens_counts():
    tokens = np.arange(64, dtype=np.int32)
    assert passages.shared(tokens[::-1].copy(), passages.held(tokens)).size == 0
    assert passages.shared(np.roll(tokens, 1), passages.held(tokens)).size == 0
    assert passages.shared(tokens, passages.held(tokens)).tolist() == [0]


def test_streams_that_are_shorter_than_a_passage():
    short = np.arange(63, dtype=np.int32)
    assert passages.held(short).size == 0
    assert passages.shared(np.arange(200, dtype=np.int32), passages.held(short)).size == 0
    assert passages.shared(short, passages.held(np.arange(200, dtype=np.int32))).size == 0
