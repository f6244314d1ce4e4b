"""Which token comes next: the likeliest one, or one drawn from the likelier ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge.errors import BundleError, InputError

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is chosen, in the order in which transformers applies it.

    `temperature` divides the logits; 0 takes the likeliest token. `top_k` keeps the k likeliest tokens, and what is as
    likely as the k-th; 0 keeps all. `top_p` keeps the fewest tokens whose probabilities reach that sum (nucleus
    sampling, Holtzman et al. 2020); 1 keeps all.

    Raises:
        InputError: a value is out of its range, or limits what is drawn from where nothing is drawn.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature must be 0 (take the likeliest token) or more, got {self.temperature}")
        if self.top_k < 0:
            raise InputError(f"top_k must be 0 (keep all tokens) or more, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p must be above 0 and at most 1 (keep all tokens), got {self.top_p}")
        if self.temperature == 0 and (self.top_k or self.top_p < 1):
            raise InputError(
                f"top_k {self.top_k} and top_p {self.top_p} limit what is drawn from, but temperature 0 draws nothing; "
                "set a temperature, such as 1"
            )


def choose(logits: Array, sampling: Sampling, generator: np.random.Generator) -> int:
    """The next token of one text.

    Args:
        logits: One value for each token of the vocabulary, `(vocabulary,) float32`.
        sampling: How it is chosen.
        generator: Where chance comes from; it is left alone at temperature 0.

    Raises:
        BundleError: the graph gave a value that is no number.
    """
    best = int(logits.argmax())
    if not np.isfinite(logits[best]):  # a NaN anywhere is what `argmax` finds
        raise BundleError(f"the graph gave {logits[best]} for token {best}; check the bundle with: tledge verify")
    if sampling.temperature == 0:
        return best
    chances = probabilities(logits, sampling)
    return int(generator.choice(len(chances), p=chances))


def probabilities(logits: Array, sampling: Sampling) -> Array:
    """What each token is drawn with, `(vocabulary,) float64`, summing to 1; the temperature must be above 0."""
    # The largest is taken off first, so that a temperature near 0 leaves it at 0 instead of infinity.
    scores = (logits.astype(np.float64) - logits.max()) / sampling.temperature
    if 0 < sampling.top_k < len(scores):
        kth = np.partition(scores, -sampling.top_k)[-sampling.top_k]
        scores[scores < kth] = -np.inf
    chances: Array = np.exp(scores)
    chances /= chances.sum()
    if sampling.top_p < 1:
        chances[_outside_nucleus(chances, sampling.top_p)] = 0
        chances /= chances.sum()
    return chances


def _outside_nucleus(chances: Array, top_p: float) -> Array:
    """The tokens that are not needed to reach `top_p`; the likeliest one always is."""
    order = np.argsort(-chances, kind="stable")
    before = np.cumsum(chances[order]) - chances[order]
    outside: Array = order[before >= top_p]
    return outside
