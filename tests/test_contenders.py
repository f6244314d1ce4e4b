"""Means over seeds, their intervals, and what a teacher gave."""

import math

import pytest

from tledge.stages.contenders import contender, gain, interval


def row(name, *values, metric="accuracy"):
    return contender(name, 10, range(len(values)), [{metric: value} for value in values], 1.0)


def test_the_interval_is_that_of_students_t():
    # By hand: mean 2, standard deviation 1, and t(0.975, 2 degrees of freedom) = 4.3027.
    mean, low, high = interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert low == pytest.approx(2 - 4.30265 / math.sqrt(3), abs=1e-4)
    assert high == pytest.approx(2 + 4.30265 / math.sqrt(3), abs=1e-4)


def test_one_seed_has_no_interval():
    found = row("student alone", 0.8)
    assert (found.mean, found.low, found.high) == ({"accuracy": 0.8}, {}, {})
    assert gain("accuracy", row("with", 0.9), found, lower_is_better=False).helps is None


def test_the_gain_is_paired_by_seed():
    # The seeds differ more from each other than the students do, and the teacher still helps every time.
    alone, taught = row("alone", 0.5, 0.7, 0.9), row("with", 0.521, 0.72, 0.919)
    found = gain("accuracy", taught, alone, lower_is_better=False)
    assert found.mean == pytest.approx(0.02)
    assert found.low > 0
    assert found.helps is True


@pytest.mark.parametrize(("lower_is_better", "helps"), [(True, True), (False, False)])
def test_which_side_is_better_depends_on_the_metric(lower_is_better, helps):
    taught, alone = row("with", 2.0, 2.1, 2.2, metric="loss"), row("alone", 3.0, 3.11, 3.2, metric="loss")
    assert gain("loss", taught, alone, lower_is_better=lower_is_better).helps is helps


def test_an_interval_that_holds_zero_tells_nothing():
    taught, alone = row("with", 0.5, 0.6, 0.7), row("alone", 0.6, 0.5, 0.69)
    assert gain("accuracy", taught, alone, lower_is_better=False).helps is None


def test_equal_gains_on_every_seed_are_told_as_such():
    found = gain("accuracy", row("with", 0.5, 0.75), row("alone", 0.25, 0.5), lower_is_better=False)
    assert (found.low, found.high, found.helps) == (0.25, 0.25, True)
