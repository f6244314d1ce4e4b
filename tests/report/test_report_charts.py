import dataclasses
import itertools
import math

import pytest

from tledge.report import Epoch, RateFinder, Regression, charts

FRAME = charts.FRAME


def _label_boxes(plot):
    for dot in plot.dots:
        width = 6.5 * max(len(dot.name), len(dot.detail))
        left = dot.label.x - {"start": 0, "middle": width / 2, "end": width}[dot.label.anchor]
        yield left, dot.label.y - 10, left + width, dot.label.y + 14


def _touch(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_dots_lie_where_their_figures_say(facts):
    plot = charts.tradeoff(facts)
    fp32, int8, fp16 = plot.dots
    assert int8.x < fp32.x < fp16.x  # by latency
    assert int8.y > fp32.y == fp16.y  # SVG's y points down
    assert int8.chosen
    assert not fp32.chosen
    assert fp32.radius**2 / int8.radius**2 == pytest.approx(91.4 / 23.3, rel=0.02)


def test_labels_of_variants_at_one_place_do_not_touch(facts):
    base = facts.variants[1]
    crowd = tuple(
        dataclasses.replace(base, name=f"scheme_{i}", chosen=i == 0, latency_ms=9 + i / 100) for i in range(4)
    )
    boxes = list(_label_boxes(charts.tradeoff(dataclasses.replace(facts, variants=crowd))))
    assert not any(_touch(a, b) for a, b in itertools.combinations(boxes, 2))
    assert all(left >= 0 and right <= charts.WIDTH and top >= -2 for left, top, right, _ in boxes)


def test_a_variant_without_latency_is_left_out_and_named(facts):
    untimed = dataclasses.replace(facts.variants[2], latency_ms=None)
    plot = charts.tradeoff(dataclasses.replace(facts, variants=(*facts.variants[:2], untimed)))
    assert [dot.name for dot in plot.dots] == ["fp32", "int8_dynamic (ships)"]
    assert plot.left_out == ("fp16",)


def test_differences_inside_the_interval_are_noted(facts):
    assert "differ by less" in charts.tradeoff(facts).note
    bad = dataclasses.replace(facts.variants[2], test_metrics={"accuracy": 0.5})
    assert not charts.tradeoff(dataclasses.replace(facts, variants=(facts.variants[0], bad))).note


def test_curves_fall_inside_the_frame_and_name_their_ends(facts):
    loss, metric = charts.learning_curves(facts)
    assert [series.name for series in loss.series] == ["training", "validation"]
    for series in (*loss.series, *metric.series):
        assert len(series.points) == 30
        assert all(FRAME.left <= x <= charts.LINES_RIGHT for x, _ in series.points)
        assert all(FRAME.top <= y <= FRAME.bottom for _, y in series.points)
    assert abs(loss.series[0].label_y - loss.series[1].label_y) >= 13
    assert "to 0.118 at 30" in loss.description
    assert metric.best.text == "best 0.954"


def test_phases_follow_each_other(facts):
    curve = (
        *(Epoch(i, 1 / i, 1 / i, 0.5, "probe") for i in (1, 2, 3)),
        *(Epoch(i, 0.2, 0.3, 0.6, "full") for i in (1, 2)),
    )
    training = dataclasses.replace(facts.training, curve=curve)
    loss, _ = charts.learning_curves(dataclasses.replace(facts, training=training))
    xs = [x for x, _ in loss.series[0].points]
    assert xs == sorted(set(xs))
    assert [phase.text for phase in loss.phases] == ["probe", "full"]
    assert loss.phases[1].at == xs[2]


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_points_that_are_not_numbers_are_left_out(facts, value):
    curve = (Epoch(1, value, 0.5, 0.5), Epoch(2, 0.4, 0.4, 0.5), Epoch(3, 0.3, 0.4, 0.5))
    loss, _ = charts.learning_curves(
        dataclasses.replace(facts, training=dataclasses.replace(facts.training, curve=curve))
    )
    assert [len(series.points) for series in loss.series] == [2, 3]


def test_nothing_is_drawn_of_one_epoch_or_none(facts):
    for curve in ((), facts.training.curve[:1], facts.training.curve[:1] * 2):
        training = dataclasses.replace(facts.training, curve=curve)
        assert charts.learning_curves(dataclasses.replace(facts, training=training)) == ()


def test_a_rate_finder_is_drawn_on_powers_of_ten_with_the_rate_taken(photos):
    (plot,) = charts.rate_finders(photos)
    assert [tick.text for tick in plot.x_ticks] == ["10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹"]
    steps = [b.at - a.at for a, b in itertools.pairwise(plot.x_ticks)]
    assert max(steps) - min(steps) <= 0.2
    (taken,) = plot.phases
    share = (taken.at - plot.x_ticks[2].at) / steps[2]  # between 1e-4 and 1e-3
    assert share == pytest.approx(math.log10(6.3), abs=0.01)
    (series,) = plot.series
    lowest = max(series.points, key=lambda point: point[1])  # SVG's y points down
    assert plot.x_ticks[3].at < lowest[0] < plot.x_ticks[4].at
    assert all(FRAME.top <= y <= FRAME.bottom for _, y in series.points), "a loss that explodes leaves no mark outside"
    assert len(series.points) < len(photos.training.rate_finders[0].rates)


@pytest.mark.parametrize(
    ("rates", "losses", "suggestion", "drawn"),
    [
        ((1e-5, 1e-4, 1e-3), (1.0, None, 0.5), None, 2),
        ((1e-5, 1e-4, 1e-3), (1.0, math.nan, 0.5), 1.0, 2),  # a rate outside the plot is not marked
        ((1e-5, 1e-4), (0.7, 0.7), 1e-5, 2),
        ((1e-5,), (0.7,), 1e-5, 0),
        ((), (), None, 0),
    ],
)
def test_a_rate_finder_takes_what_there_is(photos, rates, losses, suggestion, drawn):
    training = dataclasses.replace(photos.training, rate_finders=(RateFinder(rates, losses, suggestion, "probe"),))
    plots = charts.rate_finders(dataclasses.replace(photos, training=training))
    assert [len(plot.series[0].points) for plot in plots] == ([drawn] if drawn else [])
    assert all("of probe" in plot.title for plot in plots)
    assert all(bool(plot.phases) == (suggestion == 1e-5) for plot in plots)


def test_estimates_on_the_diagonal_are_the_truth(regression):
    exact = Regression(((0.0, 0.0), (2.0, 2.0), (10.0, 10.0)))
    plot = charts.scatter(dataclasses.replace(regression, regression=exact))
    x1, y1, x2, y2 = plot.diagonal
    for x, y in plot.points:
        assert (x - x1) / (x2 - x1) == pytest.approx((y - y1) / (y2 - y1), abs=0.002)
    one = charts.scatter(dataclasses.replace(regression, regression=Regression(((3.0, 3.0), (math.nan, 1.0)))))
    assert len(one.points) == 1
    assert charts.scatter(dataclasses.replace(regression, regression=None)) is None
