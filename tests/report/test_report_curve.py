"""What a curve over labels says: the answer, the table and the plot."""

from __future__ import annotations

import pytest

from tledge.artifacts import CurvePoint, LabelCurve
from tledge.report import curve


def made(*points, **changes):
    """A curve of points `(shots, mean, gain, half the gain's interval)`."""
    facts = {
        "name": "news", "backbone": "small", "strategy": "few_shot", "metric": "accuracy", "lower_is_better": False,
        "n_labels": 4, "n_test": 1520, "most": 900,
    }  # fmt: skip
    found = []
    for shots, mean, gain, half in points:
        bounds = (None, None, None) if gain is None else (gain, gain - half, gain + half)
        found.append(CurvePoint(shots, (0, 1), (mean - 0.01, mean + 0.01), mean, mean - 0.02, mean + 0.02, *bounds))
    return LabelCurve(points=tuple(found), **(facts | changes))


RISING = made((8, 0.70, None, 0), (16, 0.78, 0.08, 0.01), (32, 0.82, 0.04, 0.01))


def test_it_says_what_as_many_more_rows_are_likely_to_give():
    assert curve.next_gain(RISING) == pytest.approx(0.02)  # each doubling gave half of the one before
    assert curve.answer(RISING) == (
        "With 32 rows of each label accuracy is 0.820 (0.800 to 0.840).",
        "Going from 16 to 32 rows of each label gave +0.040 (95 % interval +0.030 to +0.050).",
        "As many more again, 32 rows of each label or 128 in all, are likely to give about +0.020, worth it where that "
        "much matters; 868 of each more are labelled already.",
    )


def test_steps_of_several_doublings_count_as_such():
    steps = made((1, 0.5, None, 0), (4, 0.7, 0.2, 0.01), (64, 0.8, 0.1, 0.01))
    # 0.1 a doubling around 2 rows, 0.025 around 16: a half each 1.5 doublings
    assert curve.next_gain(steps) == pytest.approx(0.025 * 0.5 ** (2.5 / 1.5))


def test_a_gain_that_chance_may_explain_is_told_to_be_none():
    flat = made((8, 0.80, None, 0), (16, 0.802, 0.002, 0.01))
    assert curve.answer(flat)[1:] == (
        "Going from 8 to 16 rows of each label gave +0.002 (95 % interval -0.008 to +0.012), which chance may explain: "
        "do not label more of the same; another backbone, a longer training or cleaner labels may help more.",
        "8 rows of each label are within 0.01 of the best point.",
    )


def test_a_small_gain_is_hardly_worth_it():
    small = made((8, 0.80, None, 0), (16, 0.81, 0.01, 0.002), (32, 0.814, 0.004, 0.002), most=32)
    assert "hardly worth it." in curve.answer(small)[2]


def test_one_point_tells_nothing():
    assert "measure a second one" in curve.answer(made((8, 0.8, None, 0)))[1]
    assert curve.lines(made((8, 0.8, None, 0))) is None


def test_the_plot_doubles_to_the_right_and_the_page_holds_it():
    plot = curve.lines(RISING)
    assert [series.name for series in plot.series] == ["mean", "95 % high", "95 % low"]
    xs = [x for x, _ in plot.series[0].points]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1])
    ys = [y for _, y in plot.series[0].points]
    assert ys == sorted(ys, reverse=True), "up is better, and SVG counts down"
    page = curve.html(RISING)
    assert page.count("<polyline") == 3
    assert '<td class="nowrap">0.800 to 0.840</td>' in page
    assert "labelled rows of each label" in page


def test_hostile_names_are_escaped():
    assert "<script>" not in curve.html(made((8, 0.8, None, 0), name="<script>", backbone="<script>"))
