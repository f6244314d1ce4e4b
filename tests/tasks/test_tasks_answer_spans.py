"""Spans that answer a question, against every span of a context looked at one after the other."""

import numpy as np
import pytest

from tledge.tasks import _answer_spans


def every_span(logits, usable, nothing, longest):
    """All spans by the definition, best first: `(first, last, logit, score)`; and the logit and score of no answer."""
    starts = [float(nothing[0])] + [float(logits[i, 0]) for i in range(len(logits)) if usable[i]]
    ends = [float(nothing[1])] + [float(logits[i, 1]) for i in range(len(logits)) if usable[i]]
    of_starts, of_ends = (sum(np.exp(x - max(all_)) for x in all_) for all_ in (starts, ends))

    def score(start, end):
        return np.exp(start - max(starts)) / of_starts * np.exp(end - max(ends)) / of_ends

    found = [
        (i, j, float(logits[i, 0]) + float(logits[j, 1]), score(float(logits[i, 0]), float(logits[j, 1])))
        for i in range(len(logits))
        for j in range(len(logits))
        if usable[i] and usable[j] and i <= j and j - i + 1 <= longest
    ]
    return sorted(found, key=lambda each: -each[2]), (sum(map(float, nothing)), score(*map(float, nothing)))


def case(seed):
    rng = np.random.default_rng(seed)
    tokens = int(rng.integers(1, 25))
    logits = rng.normal(size=(tokens, 2)).astype(np.float32) * float(rng.choice([0.1, 3, 60]))
    if seed % 5 == 0:  # many are alike
        logits = logits.round()
    return logits, rng.random(tokens) < 0.8, rng.normal(size=2).astype(np.float32), int(rng.integers(1, 12))


@pytest.mark.parametrize("seed", range(200))
def test_the_best_spans_are_those_of_a_look_at_every_span(seed):
    logits, usable, nothing, longest = case(seed)
    expected, (null_logit, null_score) = every_span(logits, usable, nothing, longest)
    for count in (1, 3, 1000):
        found = _answer_spans.find(logits, usable, nothing, longest=longest, count=count)
        assert [(s.first, s.last) for s in found.best] == [each[:2] for each in expected[:count]]
        np.testing.assert_allclose([s.logit for s in found.best], [each[2] for each in expected[:count]])
        np.testing.assert_allclose([s.score for s in found.best], [each[3] for each in expected[:count]], atol=1e-12)
        assert (found.nothing.logit, found.nothing.score) == pytest.approx((null_logit, null_score))


@pytest.mark.parametrize("threshold", [-2.0, 0.0, 1.5, np.inf])
def test_no_answer_stands_before_the_spans_that_it_is_far_enough_above(threshold):
    seen = set()
    for seed in range(60):
        logits, usable, nothing, longest = case(seed)
        found = _answer_spans.find(logits, usable, nothing, longest=longest, count=1000)
        ranked = [(s.first, s.last) for s in found.ranked(threshold, 1000)]
        spans = [(s.first, s.last) for s in found.best]
        below = [(s.first, s.last) for s in found.best if found.nothing.logit - s.logit > threshold]
        if not spans:
            assert ranked == [(-1, -1)]
        elif threshold == np.inf:
            assert ranked == spans
        else:
            assert ranked == [*spans[: len(spans) - len(below)], (-1, -1), *below]
            seen.add(ranked[0] == (-1, -1))
            assert (found.margin > threshold) == (ranked[0] == (-1, -1))
        assert [(s.first, s.last) for s in found.ranked(threshold, 2)] == ranked[:2]
    assert threshold == np.inf or seen == {True, False}


def test_a_long_context_is_no_square():
    tokens = 200_000  # a square of that many would be 320 GB
    logits = np.zeros((tokens, 2), np.float32)
    logits[150_000, 0] = logits[150_004, 1] = 5
    found = _answer_spans.find(logits, np.ones(tokens, bool), np.zeros(2), longest=30)
    assert (found.best[0].first, found.best[0].last) == (150_000, 150_004)
