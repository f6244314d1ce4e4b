"""The geometry of the plots: where lines, dots, ticks and labels stand in an SVG's own units.

The templates draw it, so that colours follow the reader's light or dark theme. The plots are narrow enough that their
text stays readable on a phone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tledge.artifacts import Variant
from tledge.report import format as fmt
from tledge.report.facts import Epoch, Facts, RateFinder
from tledge.report.labels import LINE, Circle, Frame, Label, place
from tledge.report.summary import Quality, quality, unit

WIDTH, HEIGHT = 360, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 352, 16, 220
FRAME = Frame(_LEFT, _RIGHT, _TOP, _BOTTOM)
"""The plot's area inside its axes."""
LINES_RIGHT = 282
"""Lines end here, so that their names fit beside them."""
_MAX_RADIUS = 14
_LONGEST_NAME = 30
_SHORT_NAME = 11  # that fits beside a line's end
_MOST_CURVES = 4

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis and what is written there."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its points, and the height of the name beside its end."""

    name: str
    points: tuple[Point, ...]
    label_y: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A point that is named."""

    x: float
    y: float
    text: str
    label_x: float
    label_y: float
    anchor: str


@dataclass(frozen=True, slots=True)
class Lines:
    """A plot of lines; `phases` are named places on the x axis, such as the borders between parts of training."""

    title: str
    description: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    series: tuple[Series, ...]
    phases: tuple[Tick, ...] = ()
    best: Mark | None = None
    x_title: str = "epoch"


@dataclass(frozen=True, slots=True)
class Dot:
    """One variant: its place, its radius, and its label of two lines."""

    name: str
    detail: str
    x: float
    y: float
    radius: float
    chosen: bool
    label: Label


@dataclass(frozen=True, slots=True)
class Dots:
    """The metric of variants over their latency; a dot's area is the size.

    `note` warns where the dots differ by less than the interval of one of them.
    """

    description: str
    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    dots: tuple[Dot, ...]
    left_out: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Scatter:
    """Estimates over truth; where both are of one unit the axes are too, and on the `diagonal` they are equal.

    `others` are points of another kind.
    """

    description: str
    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    points: tuple[Point, ...]
    diagonal: tuple[float, float, float, float] | None
    others: tuple[Point, ...] = ()


def learning_curves(facts: Facts) -> tuple[Lines, ...]:
    """The losses and the validation metric by epoch; nothing for what has fewer than two epochs."""
    curve = facts.training.curve
    epochs, borders = _line_up(curve)
    metrics = {"validation": _points(epochs, [each.validation_metric for each in curve])}
    if facts.metric == "loss":  # it is drawn already
        metrics = {}
    found = (
        _losses("Loss", curve),
        _lines(fmt.capital(fmt.metric_name(facts.metric)), metrics, borders, number=fmt.metric, best=_best(facts)),
    )
    return tuple(plot for plot in found if plot is not None)


def student_curves(facts: Facts) -> tuple[Lines, ...]:
    """The validation metric of the students with and without a teacher in one plot, and the losses of each by epoch."""
    found = facts.distillation
    if found is None:
        return ()
    curves = {"with teacher": found.curve, "alone": found.alone_curve}
    metrics = {
        name: _points(_line_up(curve)[0], [each.validation_metric for each in curve]) for name, curve in curves.items()
    }
    title = f"{fmt.capital(fmt.metric_name(facts.metric))} on validation {unit(facts)}"
    plots = (
        _lines(title, metrics, _line_up(found.curve)[1], number=fmt.metric),
        _losses("Loss with the teacher", found.curve),
        _losses("Loss of the student alone", found.alone_curve),
    )
    return tuple(plot for plot in plots if plot is not None)


def _losses(title: str, curve: Sequence[Epoch]) -> Lines | None:
    epochs, borders = _line_up(curve)
    losses = {
        "training": _points(epochs, [each.train_loss for each in curve]),
        "validation": _points(epochs, [each.validation_loss for each in curve]),
    }
    return _lines(title, losses, borders, number=fmt.number)


def _best(facts: Facts) -> Callable[[Iterable[Point]], Point]:
    """Picks the best point of a line of the metric."""
    pick = min if facts.lower_is_better else max
    return lambda points: pick(points, key=lambda point: point[1])


def rate_finders(facts: Facts) -> tuple[Lines, ...]:
    """The loss over the learning rate, on a logarithmic scale, with the rate that was taken."""
    found = (_rate_finder(finder) for finder in facts.training.rate_finders)
    return tuple(plot for plot in found if plot is not None)


def scatter(facts: Facts) -> Scatter | None:
    """Estimates over truth; `None` where there are none."""
    points = [p for p in facts.regression.points if all(map(math.isfinite, p))] if facts.regression else []
    if not points:
        return None
    every = [value for point in points for value in point]
    margin = (max(every) - min(every)) * 0.05 or 0.5
    low, high = min(every) - margin, max(every) + margin
    x_scale, y_scale = Scale(low, high, _LEFT, _RIGHT), Scale(low, high, _BOTTOM, _TOP)
    name = facts.labels[0] if facts.labels else "value"
    return Scatter(
        description=f"{fmt.count(len(points))} test rows: estimates from {fmt.quantity(min(y for _, y in points))} to "
        f"{fmt.quantity(max(y for _, y in points))}, truth from {fmt.quantity(min(x for x, _ in points))} to "
        f"{fmt.quantity(max(x for x, _ in points))}",
        x_title=f"true {name if len(name) <= _LONGEST_NAME else 'value'}",
        y_title="Estimate over truth",
        x_ticks=x_scale.ticks(6),
        y_ticks=y_scale.ticks(5),
        points=tuple((x_scale(x), y_scale(y)) for x, y in points),
        diagonal=(x_scale(low), y_scale(low), x_scale(high), y_scale(high)),
    )


def cosines(facts: Facts) -> Scatter | None:
    """Cosines over scores; `None` where rows have no score."""
    points = facts.vectors.points if facts.vectors else ()
    if len({x for x, _ in points}) < 2 or len({y for _, y in points}) < 2:
        return None
    (x_low, x_high), (y_low, y_high) = ((min(of), max(of)) for of in zip(*points, strict=True))
    x_margin, y_margin = (x_high - x_low) * 0.05, (y_high - y_low) * 0.05
    x_scale = Scale(x_low - x_margin, x_high + x_margin, _LEFT, _RIGHT)
    y_scale = Scale(y_low - y_margin, y_high + y_margin, _BOTTOM, _TOP)
    return Scatter(
        description=f"{fmt.count(len(points))} test rows: cosines from {fmt.quantity(y_low)} to "
        f"{fmt.quantity(y_high)}, scores from {fmt.quantity(x_low)} to {fmt.quantity(x_high)}",
        x_title="score of the row",
        y_title="Cosine over score",
        x_ticks=x_scale.ticks(6),
        y_ticks=y_scale.ticks(5),
        points=tuple((x_scale(x), y_scale(y)) for x, y in points),
        diagonal=None,
    )


def domains(facts: Facts) -> tuple[Scatter, ...]:
    """Source and target rows in projections of their features, before and after an adaptation."""
    found = facts.adaptation
    if found is None:
        return ()
    drawn = (("Features with source only", found.before), ("Features of what ships", found.after))
    return tuple(_projection(title, *each) for title, each in drawn if len(each) == 2)


def _projection(title: str, source: Sequence[Point], target: Sequence[Point]) -> Scatter:
    (x_low, x_high), (y_low, y_high) = ((min(of), max(of)) for of in zip(*source, *target, strict=True))
    x_margin, y_margin = (x_high - x_low) * 0.05 or 0.5, (y_high - y_low) * 0.05 or 0.5
    x_scale = Scale(x_low - x_margin, x_high + x_margin, _LEFT, _RIGHT)
    y_scale = Scale(y_low - y_margin, y_high + y_margin, _BOTTOM, _TOP)
    return Scatter(
        description=f"{fmt.count(len(source))} rows of the source domain and {fmt.count(len(target))} of the target",
        x_title="first direction, standard deviations",
        y_title=f"{title}: source (filled) and target (rings)",
        x_ticks=x_scale.ticks(6),
        y_ticks=y_scale.ticks(5),
        points=tuple((x_scale(x), y_scale(y)) for x, y in source),
        diagonal=None,
        others=tuple((x_scale(x), y_scale(y)) for x, y in target),
    )


def cosine_shares(facts: Facts) -> Lines | None:
    """How often cosines are how large, for texts that are alike and that are not; `None` where rows have a score."""
    shares = facts.vectors.shares if facts.vectors else {}
    every = [point for points in shares.values() for point in points]
    if len({x for x, _ in every}) < 2:
        return None
    x_scale = Scale(min(x for x, _ in every), max(x for x, _ in every), _LEFT, LINES_RIGHT)
    y_scale = Scale(0.0, max(y for _, y in every) * 1.08 or 1.0, _BOTTOM, _TOP)
    tops = [max(points, key=lambda point: point[1]) for points in shares.values()]
    label_ys = apart([y_scale(points[-1][1]) for points in shares.values()])
    return Lines(
        title="Share of pairs by cosine",
        description="; ".join(
            f"{name}: most often {fmt.quantity(top[0])}" for name, top in zip(shares, tops, strict=True)
        ),
        x_ticks=x_scale.ticks(6),
        y_ticks=y_scale.ticks(5),
        series=tuple(
            Series(name, tuple((x_scale(x), y_scale(y)) for x, y in points), label_y)
            for (name, points), label_y in zip(shares.items(), label_ys, strict=True)
        ),
        x_title="cosine of two texts",
    )


def precision_recall(facts: Facts) -> Lines | None:
    """How precise detections are at each recall, for the weakest labels; `None` where no objects are found."""
    found = facts.detections
    if found is None or not found.curves:
        return None
    weakest = sorted(found.scores, key=lambda each: each.map_50)[:_MOST_CURVES]
    curves = {each.label: list(zip(found.recalls, found.curves[each.label], strict=True)) for each in weakest}
    x_scale, y_scale = Scale(0.0, 1.0, _LEFT, LINES_RIGHT), Scale(0.0, 1.0, _BOTTOM, _TOP)
    label_ys = apart([y_scale(points[-1][1]) for points in curves.values()])
    return Lines(
        title="Precision by recall at IoU 0.5",
        description="; ".join(f"{each.label}: average {fmt.metric(each.map_50)}" for each in weakest),
        x_ticks=x_scale.ticks(6),
        y_ticks=y_scale.ticks(5),
        series=tuple(
            Series(
                name if len(name) <= _SHORT_NAME else f"{name[: _SHORT_NAME - 1]}…",
                tuple((x_scale(x), y_scale(y)) for x, y in points),
                label_y,
            )
            for (name, points), label_y in zip(curves.items(), label_ys, strict=True)
        ),
        x_title="recall",
    )


def tradeoff(facts: Facts) -> Dots | None:
    """Every variant that has a latency and a metric; `None` where no variant has both."""
    placed = []
    for variant in facts.variants:
        found = quality(facts, variant)
        if found is not None and variant.latency_ms is not None and math.isfinite(found.value):
            placed.append((variant, variant.latency_ms, found))
    if not placed:
        return None
    shown = {variant.name for variant, _, _ in placed}
    splits = sorted({found.split for _, _, found in placed})
    values = [found.value for _, _, found in placed]
    margin = max(max(values) - min(values), 0.01) * 0.35
    x_scale = Scale(0, max(ms for _, ms, _ in placed) * 1.12 or 1.0, _LEFT, _RIGHT)
    y_scale = Scale(min(values) - margin, max(values) + margin, _BOTTOM, _TOP)
    largest = max(variant.graph.size_bytes for variant, _, _ in placed) or 1
    dots = [
        (
            variant,
            x_scale(ms),
            y_scale(found.value),
            max(3.0, _MAX_RADIUS * math.sqrt(variant.graph.size_bytes / largest)),
        )
        for variant, ms, found in placed
    ]
    at = next((variant.latency_at for variant, _, _ in placed if variant.latency_at), "")
    metric = fmt.metric_name(facts.metric)
    return Dots(
        description="; ".join(
            f"{variant.name}: {fmt.milliseconds(ms)} ms, {metric} {fmt.score(facts.metric, found.value)}, "
            f"{fmt.size(variant.graph.size_bytes)}"
            for variant, ms, found in placed
        ),
        x_title=f"median latency, ms{f' ({at})' if at else ''}",
        y_title=f"{fmt.capital(metric)} on {' or '.join(splits)} {unit(facts)}",
        x_ticks=x_scale.ticks(6),
        y_ticks=y_scale.ticks(5),
        dots=_labelled(dots),
        left_out=tuple(variant.name for variant in facts.variants if variant.name not in shown),
        note=_note([found for _, _, found in placed]),
    )


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear scale from `low ... high` to the plot's `start ... end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)

    def ticks(self, most: int, *, whole: bool = False) -> tuple[Tick, ...]:
        """At most that many round values inside the scale, each written with the decimals of their step."""
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span / most))
        step = next(s for s in (power, 2 * power, 5 * power, 10 * power) if span / s <= most)
        step = max(step, 1.0) if whole else step
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        values = [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return tuple(Tick(self(value), f"{value:.{decimals}f}") for value in values)


def _rate_finder(finder: RateFinder) -> Lines | None:
    """The curve up to where the loss leaves the range that matters; nothing of fewer than two points."""
    pairs = zip(finder.rates, finder.losses, strict=False)
    points = [(math.log10(x), y) for x, y in pairs if x > 0 and y is not None and math.isfinite(y)]
    if len({x for x, _ in points}) < 2:
        return None
    low, first = min(y for _, y in points), points[0][1]
    top = min(max(y for _, y in points), first + max(first - low, 0.1 * abs(first)))  # it may well end at a thousand
    x_scale = Scale(points[0][0], points[-1][0], _LEFT, LINES_RIGHT)
    margin = (top - low) * 0.08 or 0.05
    y_scale = Scale(low - margin, top + margin, _BOTTOM, _TOP)
    left = next((i for i, (_, y) in enumerate(points) if y > top + margin), len(points))
    drawn = [(x_scale(x), y_scale(min(y, top + margin))) for x, y in points[: left + 1]]
    best = min(points, key=lambda point: point[1])
    taken = finder.suggestion
    of = f" of {finder.phase}" if finder.phase else ""
    told = f"; {fmt.number(taken)} was taken" if taken else ""
    inside = taken is not None and taken > 0 and x_scale.low <= math.log10(taken) <= x_scale.high
    return Lines(
        title=f"Learning-rate finder{of}",
        description=f"Loss by learning rate{of}: from {fmt.number(first)} at {fmt.number(10 ** points[0][0])}, lowest "
        f"{fmt.number(best[1])} at {fmt.number(10 ** best[0])}{told}",
        x_ticks=_powers(x_scale),
        y_ticks=y_scale.ticks(5),
        series=(Series("loss", tuple(drawn), drawn[-1][1]),),
        phases=(Tick(x_scale(math.log10(taken)), f"taken: {fmt.number(taken)}"),) if taken and inside else (),
        x_title="learning rate",
    )


def _powers(scale: Scale) -> tuple[Tick, ...]:
    """A tick at each power of ten of a logarithmic scale, or at every second, third ... of them."""
    powers = range(math.ceil(scale.low - 1e-9), math.floor(scale.high + 1e-9) + 1)
    return tuple(Tick(scale(power), fmt.power_of_ten(power)) for power in powers[:: math.ceil(len(powers) / 7) or 1])


def _line_up(curve: Sequence[Epoch]) -> tuple[list[float], list[tuple[float, str]]]:
    """Epochs counted through all phases, and where each phase starts; no phases where there is only one."""
    epochs: list[float] = []
    starts: list[tuple[float, str]] = []
    before, phase = 0.0, None
    for point in curve:
        if phase != point.phase:
            before, phase = epochs[-1] if epochs else 0.0, point.phase
            starts.append((before, point.phase))
        epochs.append(before + point.epoch)
    return epochs, starts if len(starts) > 1 else []


def _points(epochs: Sequence[float], values: Sequence[float | None]) -> list[Point]:
    pairs = zip(epochs, values, strict=True)
    return [(epoch, value) for epoch, value in pairs if value is not None and math.isfinite(value)]


def _lines(
    title: str,
    series: dict[str, list[Point]],
    borders: Sequence[tuple[float, str]],
    *,
    number: Callable[[float], str],
    best: Callable[[Iterable[Point]], Point] | None = None,
) -> Lines | None:
    """A plot of lines; `best` picks the point of the first one that is marked."""
    drawn = {name: points for name, points in series.items() if len({x for x, _ in points}) > 1}
    if not drawn:
        return None
    every = [point for points in drawn.values() for point in points]
    low, high = min(y for _, y in every), max(y for _, y in every)
    margin = (high - low) * 0.08 or 0.05
    x_scale = Scale(min(x for x, _ in every), max(x for x, _ in every), _LEFT, LINES_RIGHT)
    y_scale = Scale(max(0.0, low - margin) if low >= 0 else low - margin, high + margin, _BOTTOM, _TOP)
    label_ys = apart([y_scale(points[-1][1]) for points in drawn.values()])
    marked = None if best is None else best(next(iter(drawn.values())))
    told = [
        f"{name} from {number(points[0][1])} at epoch {points[0][0]:g} to {number(points[-1][1])} at {points[-1][0]:g}"
        for name, points in drawn.items()
    ]
    if marked is not None:
        told.append(f"best {number(marked[1])} at epoch {marked[0]:g}")
    return Lines(
        title=title,
        description=f"{title} by epoch: {'; '.join(told)}",
        x_ticks=x_scale.ticks(6, whole=True),
        y_ticks=y_scale.ticks(5),
        series=tuple(
            Series(name, tuple((x_scale(x), y_scale(y)) for x, y in points), label_y)
            for (name, points), label_y in zip(drawn.items(), label_ys, strict=True)
        ),
        phases=tuple(Tick(x_scale(max(at, x_scale.low)), name) for at, name in borders),
        best=_mark(x_scale(marked[0]), y_scale(marked[1]), f"best {number(marked[1])}") if marked else None,
    )


def _mark(x: float, y: float, text: str) -> Mark:
    """A mark with its text below, leaning away from the plot's nearer side."""
    left = x < (_LEFT + LINES_RIGHT) / 2
    return Mark(x, y, text, x - 4 if left else x + 4, y + 22, "start" if left else "end")


def apart(heights: Sequence[float]) -> list[float]:
    """Heights of labels, moved down where they would touch the one above and up again at the bottom."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = list(heights)
    for above, below in itertools.pairwise(order):
        placed[below] = max(placed[below], placed[above] + LINE)
    over = max(0.0, max(placed) - _BOTTOM)
    return [round(y - over, 1) for y in placed]


def _note(found: Sequence[Quality]) -> str:
    values = [each.value for each in found]
    low = max((each.low for each in found if each.low is not None), default=None)
    if len(found) < 2 or low is None or low > min(values):
        return ""
    return "The variants differ by less than the 95 % interval of one of them."


def _labelled(dots: Sequence[tuple[Variant, float, float, float]]) -> tuple[Dot, ...]:
    """The dots with their labels; the chosen one's label takes its place first."""
    order = sorted(dots, key=lambda dot: not dot[0].chosen)
    texts = {variant.name: (_name(variant), fmt.size(variant.graph.size_bytes)) for variant, *_ in dots}
    circles = [Circle(x, y, radius, max(map(len, texts[variant.name]))) for variant, x, y, radius in order]
    labels = dict(zip((variant.name for variant, *_ in order), place(circles, FRAME, WIDTH), strict=True))
    return tuple(
        Dot(*texts[variant.name], x, y, round(radius, 1), variant.chosen, labels[variant.name])
        for variant, x, y, radius in dots
    )


def _name(variant: Variant) -> str:
    return f"{variant.name} (ships)" if variant.chosen else variant.name
