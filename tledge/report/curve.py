"""A metric over labelled rows: what more labels gave, what more would give, and the page that draws it."""

from __future__ import annotations

import itertools
import math

import tledge
from tledge.artifacts import CurvePoint, LabelCurve
from tledge.report import charts
from tledge.report import format as fmt
from tledge.report.charts import FRAME, LINES_RIGHT, Lines, Scale, Series, Tick
from tledge.report.web import environment, printable

SMALL = 0.005
"""A gain below this is called small."""
NEAR = 0.01
"""What counts as near to the best point."""
HEADER = ("rows of each label", "rows in all", "mean", "95 % interval", "lowest", "highest", "seeds")


def answer(curve: LabelCurve) -> tuple[str, ...]:
    """How many more rows to label, in sentences: what the last step gave, and what the next is likely to."""
    metric, last = fmt.metric_name(curve.metric), curve.points[-1]
    at = f"With {_rows(last.shots)} of each label {metric} is {_shown(curve, last)}."
    if last.gain is None:
        return (at, "One point tells nothing of what more rows would give: measure a second one with fewer.")
    before = curve.points[-2]
    step = f"Going from {fmt.count(before.shots)} to {_rows(last.shots)} of each label gave {_gain(last)}"
    if last.gain_low is None or last.gain_low <= 0:
        advice = "do not label more of the same; another backbone, a longer training or cleaner labels may help more"
        return (at, f"{step}, which chance may explain: {advice}.", *_near(curve))
    expected, left = next_gain(curve), curve.most - last.shots
    worth = "hardly worth it" if expected < SMALL else "worth it where that much matters"
    there = f"; {fmt.count(left)} of each more are labelled already" if left > 0 else ""
    return (
        at,
        f"{step}.",
        f"As many more again, {_rows(last.shots)} of each label or {fmt.count(last.shots * curve.n_labels)} in all, "
        f"are likely to give about {fmt.gain(expected)}, {worth}{there}.",
        *_near(curve),
    )


def next_gain(curve: LabelCurve) -> float:
    """What twice as many rows are likely to give: gains for a doubling shrink as they did between the last two steps.

    With one step alone, and where the last doubling gave more than the one before, it is what the last one gave.
    """
    pairs = [(q, math.log2(q.shots / p.shots)) for p, q in itertools.pairwise(curve.points) if q.gain is not None]
    each = [(point.gain or 0.0) / doublings for point, doublings in pairs]
    if len(each) < 2 or each[-2] <= 0:
        return max(0.0, each[-1])
    apart = (pairs[-1][1] + pairs[-2][1]) / 2  # doublings between the middles of the two steps
    shrink = math.pow(min(1.0, max(0.0, each[-1] / each[-2])), 1 / apart)
    return max(0.0, each[-1] * math.pow(shrink, (pairs[-1][1] + 1) / 2))


def _near(curve: LabelCurve) -> tuple[str, ...]:
    """From which point on the metric is near to its best one, where that is not the last one."""
    sign = -1 if curve.lower_is_better else 1
    best = max(curve.points, key=lambda point: sign * point.mean)
    first = next(point for point in curve.points if sign * (best.mean - point.mean) <= NEAR)
    if first is curve.points[-1]:
        return ()
    return (f"{_rows(first.shots)} of each label are within {NEAR:g} of the best point.",)


def _rows(count: int) -> str:
    return f"{fmt.count(count)} {'row' if count == 1 else 'rows'}"


def _shown(curve: LabelCurve, point: CurvePoint) -> str:
    bounds = "" if point.low is None or point.high is None else f" ({_bounds(curve, point)})"
    return f"{fmt.score(curve.metric, point.mean)}{bounds}"


def _bounds(curve: LabelCurve, point: CurvePoint) -> str:
    if point.low is None or point.high is None:
        return fmt.NOT_MEASURED
    return f"{fmt.score(curve.metric, point.low)} to {fmt.score(curve.metric, point.high)}"


def _gain(point: CurvePoint) -> str:
    gain = fmt.gain(point.gain or 0.0)
    if point.gain_low is None or point.gain_high is None:
        return gain
    return f"{gain} (95 % interval {fmt.gain(point.gain_low)} to {fmt.gain(point.gain_high)})"


def rows(curve: LabelCurve) -> list[tuple[str, ...]]:
    """The cells of `HEADER` for each point."""
    return [
        (
            fmt.count(point.shots),
            fmt.count(point.shots * curve.n_labels),
            fmt.score(curve.metric, point.mean),
            _bounds(curve, point),
            fmt.score(curve.metric, min(point.values)),
            fmt.score(curve.metric, max(point.values)),
            fmt.count(len(point.values)),
        )
        for point in curve.points
    ]


def lines(curve: LabelCurve) -> Lines | None:
    """The mean and the ends of its interval over rows of each label, doubling to the right; `None` for one point."""
    points = curve.points
    if len(points) < 2:
        return None
    at = [math.log2(point.shots) for point in points]
    mean = list(zip(at, (point.mean for point in points), strict=True))
    low = [(x, point.mean if point.low is None else point.low) for x, point in zip(at, points, strict=True)]
    high = [(x, point.mean if point.high is None else point.high) for x, point in zip(at, points, strict=True)]
    every = [y for line in (low, high) for _, y in line]
    margin = (max(every) - min(every)) * 0.08 or 0.05
    x_scale = Scale(mean[0][0], mean[-1][0], FRAME.left, LINES_RIGHT)
    y_scale = Scale(min(every) - margin, max(every) + margin, FRAME.bottom, FRAME.top)
    named = {"mean": mean} | ({"95 % high": high, "95 % low": low} if points[0].low is not None else {})
    heights = charts.apart([y_scale(line[-1][1]) for line in named.values()])
    title = f"{fmt.capital(fmt.metric_name(curve.metric))} on {fmt.count(curve.n_test)} test rows"
    told = ", ".join(f"{fmt.score(curve.metric, p.mean)} with {fmt.count(p.shots)}" for p in points)
    return Lines(
        title=title,
        description=f"{title} by labelled rows of each label: {told}",
        x_ticks=tuple(Tick(x_scale(math.log2(p.shots)), fmt.count(p.shots)) for p in points),
        y_ticks=y_scale.ticks(5),
        series=tuple(
            Series(name, tuple((x_scale(x), y_scale(y)) for x, y in line), height)
            for (name, line), height in zip(named.items(), heights, strict=True)
        ),
        x_title="labelled rows of each label",
    )


def html(curve: LabelCurve) -> str:
    """The curve as a page of its own."""
    page = (
        environment()
        .get_template("curve.html")
        .render(
            curve=curve,
            answer=answer(curve),
            plot=lines(curve),
            header=HEADER,
            rows=rows(curve),
            version=tledge.__version__,
            width=charts.WIDTH,
            height=charts.HEIGHT,
            frame=FRAME,
            lines_right=LINES_RIGHT,
            fmt=fmt,
        )
    )
    return printable(page)
