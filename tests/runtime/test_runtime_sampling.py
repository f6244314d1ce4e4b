"""Choosing a token: which may be drawn, and how often, against distributions computed by hand and by transformers."""

import numpy as np
import pytest

from tledge.errors import BundleError, InputError
from tledge.runtime.sampling import Sampling, choose, probabilities

FOUR = np.log(np.float32([0.1, 0.4, 0.2, 0.3]))


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(1), [0.1, 0.4, 0.2, 0.3]),
        (Sampling(0.5), [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
        (Sampling(1, top_k=1), [0, 1, 0, 0]),
        (Sampling(1, top_k=3), [0, 4 / 9, 2 / 9, 3 / 9]),
        (Sampling(1, top_k=9), [0.1, 0.4, 0.2, 0.3]),
        (Sampling(1, top_p=0.4 - 1e-6), [0, 1, 0, 0]),
        (Sampling(1, top_p=0.5), [0, 4 / 7, 0, 3 / 7]),
        (Sampling(1, top_p=0.8), [0, 4 / 9, 2 / 9, 3 / 9]),
        (Sampling(1, top_p=1e-9), [0, 1, 0, 0]),
        # top_k first: of the three that are left, two have 7/9 of the probability.
        (Sampling(1, top_k=3, top_p=0.75), [0, 4 / 7, 0, 3 / 7]),
        # temperature first: at 2 the square roots count, of which two have only 61 %.
        (Sampling(2, top_p=0.65), np.array([0, 0.4**0.5, 0.2**0.5, 0.3**0.5]) / (0.4**0.5 + 0.2**0.5 + 0.3**0.5)),
    ],
    ids=str,
)
def test_probabilities_by_hand(sampling, expected):
    np.testing.assert_allclose(probabilities(FOUR, sampling), expected, atol=1e-6)


def test_as_likely_as_the_last_one_that_is_kept():
    chances = probabilities(np.float32([2, 1, 1, 1, 0]), Sampling(1, top_k=2))
    assert (chances > 0).tolist() == [True, True, True, True, False]


@pytest.mark.parametrize("seed", range(5))
def test_the_same_tokens_are_kept_as_in_transformers(seed):
    import torch
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = np.random.default_rng(seed).normal(scale=3, size=200).astype(np.float32)
    scores = torch.from_numpy(logits)[None]
    for warp in (TemperatureLogitsWarper(0.7), TopKLogitsWarper(40), TopPLogitsWarper(0.9)):
        scores = warp(None, scores)
    expected = scores.softmax(-1)[0].numpy()
    chances = probabilities(logits, Sampling(0.7, 40, 0.9))
    assert ((chances > 0) == (expected > 0)).all()
    np.testing.assert_allclose(chances, expected, atol=1e-6)


def test_greedy_takes_the_first_of_the_likeliest_and_leaves_chance_alone():
    generator = np.random.default_rng(3)
    assert choose(np.float32([1, 5, 5, 2]), Sampling(), generator) == 1
    assert generator.random() == np.random.default_rng(3).random()


def test_only_what_is_kept_is_ever_drawn_and_the_seed_decides():
    sampling = Sampling(1, top_k=2)
    drawn = [choose(FOUR, sampling, generator) for generator in [np.random.default_rng(5)] for _ in range(200)]
    again = [choose(FOUR, sampling, generator) for generator in [np.random.default_rng(5)] for _ in range(200)]
    assert set(drawn) == {1, 3}
    assert drawn == again


def test_a_draw_follows_the_probabilities():
    """Each token is drawn for the share of the unit interval that is its probability, in order."""

    class Even:
        def choice(self, n, p):
            return np.arange(n)[np.searchsorted(np.cumsum(p), self.at, side="right")]

    generator = Even()
    drawn = []
    for generator.at in np.arange(0.005, 1, 0.01):
        drawn.append(choose(FOUR, Sampling(1), generator))
    assert np.bincount(drawn).tolist() == [10, 40, 20, 30]


@pytest.mark.parametrize("temperature", [1e-30, 1e-3, 1e30])
def test_extreme_temperatures_stay_numbers(temperature):
    chances = probabilities(np.float32([-1e4, 0, 3e4, 3e4 - 100]), Sampling(temperature))
    assert np.isfinite(chances).all()
    assert chances.sum() == pytest.approx(1)
    assert chances[2] == pytest.approx(1 if temperature < 1 else 0.25)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_is_refused(wrong):
    with pytest.raises(BundleError, match=r"the graph gave .* for token 1; check the bundle with: tledge verify"):
        choose(np.float32([0, wrong, 2]), Sampling(1), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, "temperature must be 0 .* or more, got -0.1"),
        ({"temperature": float("nan")}, "temperature must be 0 .* got nan"),
        ({"temperature": float("inf")}, "temperature must be 0 .* got inf"),
        ({"temperature": 1, "top_k": -1}, "top_k must be 0 .* or more, got -1"),
        ({"temperature": 1, "top_p": 0}, "top_p must be above 0 and at most 1 .*, got 0"),
        ({"temperature": 1, "top_p": 1.5}, "top_p must be above 0 and at most 1 .*, got 1.5"),
        ({"top_k": 5}, "temperature 0 draws nothing; set a temperature"),
        ({"top_p": 0.5}, "temperature 0 draws nothing; set a temperature"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(InputError, match=message):
        Sampling(**settings)
