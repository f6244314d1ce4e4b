"""A history of gates and benchmarks: the median over time for each machine and bundle, and the last records."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import tledge
from tledge.artifacts import ACCEPT, ANOMALOUS, INCONCLUSIVE, REGRESSION, Record
from tledge.report import charts
from tledge.report import format as fmt
from tledge.report.charts import Scale, Tick
from tledge.report.text import code, escape, table
from tledge.report.web import environment, printable

_NONE = "–"
_PAGE_ROWS, _MARKDOWN_ROWS = 12, 10
_MOST_DOTS = 60
"""With more points than this a line has no dots."""
_MOST_UPRIGHTS = 12
"""With more marks than this none has a line down through the plot."""
_STRIP = 7
"""Height of the row of verdicts above the plot."""
_VERDICTS = (ANOMALOUS, REGRESSION, INCONCLUSIVE, ACCEPT)
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_STEPS = (
    *(n * _MINUTE for n in (1, 2, 5, 10, 30)),
    *(n * _HOUR for n in (1, 2, 6, 12)),
    *(n * _DAY for n in (1, 2, 4, 7, 14, 28, 56, 91, 182, 365)),
)
HEADER = ("time", "variant", "median", "against", "verdict", "setting", "size", "load", "peak memory", "version")


@dataclass(frozen=True, slots=True)
class Line:
    """One variant over time in an SVG's units: its points, its intervals as a path, and its last median in words."""

    name: str
    points: tuple[tuple[float, float], ...]
    intervals: str
    last: str


@dataclass(frozen=True, slots=True)
class Mark:
    """The verdict of one run, at its time."""

    x: float
    verdict: str
    when: str


@dataclass(frozen=True, slots=True)
class Trend:
    """The medians of every variant at one setting on one machine; `title` says of what.

    `uprights` are where a run was a REGRESSION or ANOMALOUS, `verdicts` those that occur, the worst first.
    """

    title: str
    setting: str
    description: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_title: str
    lines: tuple[Line, ...]
    dots: bool
    marks: tuple[Mark, ...]
    uprights: tuple[float, ...]
    verdicts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Every record of one bundle on one machine; `last` are the cells of the latest ones, the newest first."""

    name: str
    machine: str
    trends: tuple[Trend, ...]
    last: tuple[tuple[str, ...], ...]
    total: int
    left_out: int


def html(records: Iterable[Record]) -> str:
    """The history as an HTML page: a plot for each machine, bundle and setting, and the last records below it.

    Records of different machines are never in one line. One without a finite median or a readable time is in the table
    alone.
    """
    found = list(records)
    page = (
        environment()
        .get_template("history.html")
        .render(
            groups=groups(found, _PAGE_ROWS),
            count=len(found),
            header=HEADER,
            version=tledge.__version__,
            strip=_STRIP,
            width=charts.WIDTH,
            height=charts.HEIGHT,
            frame=charts.FRAME,
            fmt=fmt,
        )
    )
    return printable(page)


def markdown(records: Iterable[Record]) -> str:
    """The history's last records by machine and bundle as Markdown tables."""
    blocks = ["## History"]
    for group in groups(list(records), _MARKDOWN_ROWS):
        rows = [(escape(when), code(variant), *map(escape, rest)) for when, variant, *rest in group.last]
        blocks += [f"### {escape(group.name)}", escape(group.machine), table(HEADER, rows)]
        if group.total > len(rows):
            blocks.append(f"The last {len(rows)} of {fmt.count(group.total)} records.")
    return "\n\n".join(blocks if len(blocks) > 1 else [*blocks, "There are no records."]) + "\n"


def groups(records: Sequence[Record], rows: int) -> tuple[Group, ...]:
    """The records by bundle and machine, sorted by name.

    Args:
        records: In any order.
        rows: The number of latest records to show.
    """
    by_place: dict[tuple[str, ...], list[Record]] = {}
    for record in sorted(records, key=lambda record: _seconds(record) or 0.0):
        by_place.setdefault((record.name, record.fingerprint, record.cpu, record.onnxruntime), []).append(record)
    return tuple(_group(by_place[place], rows) for place in sorted(by_place))


def _group(records: list[Record], rows: int) -> Group:
    first = records[0]
    by_setting: dict[str, list[Record]] = {}
    for record in records:
        if _drawn(record):
            by_setting.setdefault(_setting(record), []).append(record)
    machine = f"{first.cpu or 'unknown processor'}, onnxruntime {first.onnxruntime or 'unknown'}"
    return Group(
        name=first.name or "without a name",
        machine=f"{machine}, fingerprint {first.fingerprint or 'unknown'}",
        trends=tuple(_trend(setting, found) for setting, found in by_setting.items()),
        last=tuple(_cells(record) for record in reversed(records[-rows:])),
        total=len(records),
        left_out=len(records) - sum(map(len, by_setting.values())),
    )


def _trend(setting: str, records: list[Record]) -> Trend:
    by_variant: dict[str, list[Record]] = {}
    for record in records:
        by_variant.setdefault(record.variant, []).append(record)
    x_scale, y_scale = _time_scale(records), _median_scale(records)
    lines = tuple(_line(name, found, x_scale, y_scale) for name, found in by_variant.items())
    runs = {(_time(record), record.verdict, record.created) for record in records if record.verdict in _VERDICTS}
    marks = tuple(Mark(x_scale(at), verdict, fmt.moment(created)) for at, verdict, created in sorted(runs))
    uprights = tuple(mark.x for mark in marks if mark.verdict in (REGRESSION, ANOMALOUS))
    told = "; ".join(
        f"{name}: {fmt.count(len(found))} {'record' if len(found) == 1 else 'records'}, {_words(found)}"
        for name, found in by_variant.items()
    )
    title = "Median latency" if records[0].new_tokens is None else "Median time of a further token"
    days = [f"{_moment(at):%Y-%m-%d}" for at in (_time(records[0]), _time(records[-1]))]
    return Trend(
        title=title,
        setting=setting,
        description=f"{title} over time at {setting}: {told}",
        x_ticks=_time_ticks(x_scale),
        y_ticks=y_scale.ticks(5),
        x_title=f"{' to '.join(dict.fromkeys(days))}, UTC",
        lines=lines,
        dots=max(map(len, by_variant.values())) <= _MOST_DOTS,
        marks=marks,
        uprights=uprights if len(uprights) <= _MOST_UPRIGHTS else (),
        verdicts=tuple(verdict for verdict in _VERDICTS if any(mark.verdict == verdict for mark in marks)),
    )


def _line(name: str, records: list[Record], x_scale: Scale, y_scale: Scale) -> Line:
    points = tuple((x_scale(_time(record)), y_scale(_median(record))) for record in records)
    bars = []
    for (x, _), record in zip(points, records, strict=True):
        if (interval := _interval(record)) is not None:
            low, high = (y_scale(min(max(bound, y_scale.low), y_scale.high)) for bound in interval)
            bars.append(f"M{x},{low}V{high}")
    return Line(name, points, "".join(bars), _with_interval(records[-1]))


def _time_scale(records: list[Record]) -> Scale:
    times = [_time(record) for record in records]
    span = max(times) - min(times)
    margin = max(span * 0.02, (_HOUR - span) / 2)
    return Scale(min(times) - margin, max(times) + margin, charts.FRAME.left, charts.FRAME.right)


def _median_scale(records: list[Record]) -> Scale:
    """Room for every median, and for intervals as far as they do not press the medians flat."""
    medians = [_median(record) for record in records]
    bounds = [bound for record in records for bound in _interval(record) or ()]
    low, high = min(medians), max(medians)
    room = max(high - low, 0.1 * high)
    low, high = max(min([low, *bounds]), low - room), min(max([high, *bounds]), high + room)
    margin = (high - low) * 0.08 or high * 0.05 or 0.05
    return Scale(max(0.0, low - margin), high + margin, charts.FRAME.bottom, charts.FRAME.top)


def _time_ticks(scale: Scale) -> tuple[Tick, ...]:
    """At most five round times, each written as exactly as their step needs."""
    span = scale.high - scale.low
    step = next((step for step in _STEPS if span / step <= 5), math.ceil(span / 5 / _STEPS[-1]) * _STEPS[-1])
    form = "%H:%M" if step < _DAY else "%m-%d" if span < 300 * _DAY else "%Y-%m"
    times = range(math.ceil(scale.low / step) * step, math.floor(scale.high) + 1, step)
    return tuple(Tick(scale(at), f"{_moment(at):{form}}") for at in times)


def _drawn(record: Record) -> bool:
    median = record.p50_ms
    return median is not None and math.isfinite(median) and record.batch is not None and _seconds(record) is not None


def _median(record: Record) -> float:
    assert record.p50_ms is not None
    return record.p50_ms


def _interval(record: Record) -> tuple[float, float] | None:
    low, high = record.p50_low_ms, record.p50_high_ms
    return (low, high) if low is not None and high is not None and math.isfinite(low + high) else None


def _time(record: Record) -> float:
    seconds = _seconds(record)
    assert seconds is not None
    return seconds


def _seconds(record: Record) -> float | None:
    """When the record was made, in seconds; a time without a zone is taken for UTC."""
    try:
        parsed = datetime.datetime.fromisoformat(record.created)
    except ValueError:
        return None
    if not 1970 <= parsed.year < 9000:
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)).timestamp()


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _setting(record: Record) -> str:
    if record.batch is None or record.threads is None:
        return _NONE
    at = fmt.setting(
        record.batch, record.sequence, record.threads, decoding=record.decoding, new_tokens=record.new_tokens
    )
    return f"{at}, {record.provider}"


def _cells(record: Record) -> tuple[str, ...]:
    return (
        fmt.moment(record.created),
        record.variant,
        _typical(record),
        _against(record),
        record.verdict or _NONE,
        _setting(record),
        _figure(record.size_mb, fmt.megabytes),
        _figure(record.load_ms, _milliseconds),
        _figure(record.peak_memory_mb, fmt.megabytes),
        record.version or _NONE,
    )


def _words(records: list[Record]) -> str:
    medians = [_median(record) for record in records]
    low, high, last = map(fmt.milliseconds, (min(medians), max(medians), medians[-1]))
    return f"from {low} to {high} ms, last {last} ms"


def _typical(record: Record) -> str:
    """The median; of a language model's texts that of one token, and the tokens a second."""
    rate, low, high = record.tokens_per_second, record.tokens_per_second_low, record.tokens_per_second_high
    if rate is None or not math.isfinite(rate):
        return _with_interval(record)
    bounds = f" ({fmt.quantity(low)} to {fmt.quantity(high)})" if low is not None and high is not None else ""
    return f"{_with_interval(record)} a token, {fmt.quantity(rate)} tokens/s{bounds}"


def _with_interval(record: Record) -> str:
    text = _figure(record.p50_ms, _milliseconds)
    interval = _interval(record)
    if text == _NONE or interval is None:
        return text
    return f"{text} ({fmt.milliseconds(interval[0])} to {fmt.milliseconds(interval[1])})"


def _against(record: Record) -> str:
    if record.ratio is None or not math.isfinite(record.ratio):
        return _NONE
    bounds = f" ({record.ratio_low:.3f} to {record.ratio_high:.3f})" if record.ratio_low and record.ratio_high else ""
    return f"{record.ratio:.3f}{bounds} of {record.against}"


def _figure(value: float | None, words: Callable[[float], str]) -> str:
    return _NONE if value is None or not math.isfinite(value) else words(value)


def _milliseconds(value: float) -> str:
    return f"{fmt.milliseconds(value)} ms"
