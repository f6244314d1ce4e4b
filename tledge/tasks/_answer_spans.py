"""The spans of a context that answer a question, from the logits of their first and last tokens.

Of all tokens of the context, each in the one window that sees most around it, and of the place that stands for no
answer there is one softmax for starts and one for ends. A span's score is the product of its start's and its end's
probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from tledge import metrics

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a context: its first and last token, or -1 and -1 for no answer.

    `logit` is the sum of its start's and its end's, and `score` the product of their probabilities, 0 to 1.
    """

    first: int
    last: int
    logit: float
    score: float


@dataclass(frozen=True, slots=True)
class Spans:
    """The best spans of a context, best first, and beside them `nothing`, which stands for no answer."""

    best: tuple[Span, ...]
    nothing: Span

    @property
    def margin(self) -> float:
        """How much the logit of no answer is above that of the best span; infinite where there is no span."""
        return self.nothing.logit - self.best[0].logit if self.best else np.inf

    def ranked(self, threshold: float, count: int) -> list[Span]:
        """The `count` best answers at most, with no answer before the first span that it is far enough above.

        Args:
            threshold: how much the logit of no answer must be above a span's; infinite for a model that always answers.
            count: how many.
        """
        if not self.best:
            return [self.nothing]
        if not np.isfinite(threshold):
            return list(self.best[:count])
        above = next((i for i, span in enumerate(self.best) if self.nothing.logit - span.logit > threshold), None)
        place = len(self.best) if above is None else above
        return [*self.best[:place], self.nothing, *self.best[place:]][:count]


def find(logits: Array, usable: Array, nothing: Array, *, longest: int, count: int = 1) -> Spans:
    """The spans of one context with the highest scores; of equal ones the first, and of those the shortest.

    Args:
        logits: of each token to be the first and the last one of the answer, `(tokens, 2)`, float.
        usable: which tokens may be that, `(tokens,) bool`.
        nothing: the logits of no answer, `(2,)`.
        longest: tokens of a span at most, those between that are not usable too.
        count: how many spans.
    """
    every = np.vstack([nothing, np.where(usable[:, None], logits, -np.inf)]).astype(np.float64)
    start, end = metrics.softmax(every.T)
    none = Span(-1, -1, float(every[0].sum()), float(start[0] * end[0]))
    if not usable.any():
        return Spans((), none)
    ends = np.concatenate([every[1:, 1], np.full(longest - 1, -np.inf)])
    sums = (
        every[1:, :1] + sliding_window_view(ends, longest)
    ).ravel()  # (token * longest): where a span starts, its end
    order = [sums.argmax()] if count == 1 else _largest(sums, count)
    return Spans(
        tuple(
            Span(first, last, float(sums[place]), float(start[first + 1] * end[last + 1]))
            for place in map(int, order)
            for first, last in [(place // longest, place // longest + place % longest)]
            if np.isfinite(sums[place])
        ),
        none,
    )


def _largest(values: Array, count: int) -> Array:
    """The places of the largest values, the largest first, and of equal ones the first."""
    if count < len(values):
        least = np.partition(values, len(values) - count)[len(values) - count]
        places = np.flatnonzero(values >= least)
    else:
        places = np.arange(len(values))
    return np.asarray(places[np.argsort(-values[places], kind="stable")][:count])
