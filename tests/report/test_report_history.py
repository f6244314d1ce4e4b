"""The history's page: what is drawn, what never shares a line, and that any record can be shown."""

import datetime
import math
import re

import pytest
from test_report_web import Page

from tledge.artifacts import ACCEPT, ANOMALOUS, INCONCLUSIVE, REGRESSION, Record
from tledge.report import charts, history

START = datetime.datetime(2026, 1, 5, 9, tzinfo=datetime.UTC)


def record(day=0.0, variant="int8", p50=2.5, **changes):
    given = {
        "created": (START + datetime.timedelta(days=day)).isoformat(), "name": "made-up", "variant": variant,
        "batch": 1, "sequence": 32, "threads": 1, "provider": "cpu", "p50_ms": p50, "verdict": ACCEPT,
        "fingerprint": "0123456789ab", "cpu": "Imaginary CPU", "onnxruntime": "1.31.1",
    }  # fmt: skip
    return Record(**(given | changes))


def with_interval(day=0.0, p50=2.5, **changes):
    return record(day, p50=p50, p50_low_ms=p50 * 0.98, p50_high_ms=p50 * 1.03, **changes)


def only_trend(records):
    (group,) = history.groups(records, 5)
    (trend,) = group.trends
    return trend


def inside(trend):
    frame = charts.FRAME
    points = [point for line in trend.lines for point in line.points]
    bars = [float(y) for line in trend.lines for y in re.findall(r",([\d.]+)V", line.intervals)]
    assert all(frame.left <= x <= frame.right and frame.top <= y <= frame.bottom for x, y in points)
    assert all(frame.top <= y <= frame.bottom for y in bars)
    assert all(frame.left <= mark.x <= frame.right for mark in trend.marks)
    assert 1 <= len(trend.x_ticks) <= 6


def test_a_variant_is_a_line_over_time_with_its_intervals():
    trend = only_trend([with_interval(day, 2.5 + day / 10) for day in (2, 0, 1)])
    (line,) = trend.lines
    xs, ys = zip(*line.points, strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys, reverse=True)  # an SVG's y grows downwards
    assert line.intervals.count("M") == 3
    assert line.last == "2.70 ms (2.65 to 2.78)"
    inside(trend)


def test_records_of_different_machines_bundles_or_settings_are_never_in_one_line():
    records = [
        record(0), record(1, fingerprint="ffffffffffff"), record(2, name="other"), record(3, batch=8),
        record(4, provider="cuda"), record(5, fingerprint="", cpu="a"), record(6, fingerprint="", cpu="b"),
    ]  # fmt: skip
    lines = [line for group in history.groups(records, 5) for trend in group.trends for line in trend.lines]
    assert [len(line.points) for line in lines] == [1] * 7


def test_tokens_of_a_language_model_have_a_plot_of_their_own():
    def generated(day, **changes):
        rates = {"tokens_per_second": 2300.0, "tokens_per_second_low": 2250.0, "tokens_per_second_high": 2350.0}
        return record(day, p50=0.42, decoding=True, new_tokens=64, **rates | changes)

    records = [record(0, decoding=True), generated(1), generated(2), generated(3, tokens_per_second=math.inf)]
    (group,) = history.groups(records, 9)
    assert [(trend.title, trend.setting) for trend in group.trends] == [
        ("Median latency", "batch 1, one token after 32, 1 thread, cpu"),
        ("Median time of a further token", "batch 1, 64 tokens after 32, 1 thread, cpu"),
    ]
    assert [cells[2] for cells in group.last] == [
        "0.420 ms",
        *["0.420 ms a token, 2,300 tokens/s (2,250 to 2,350)"] * 2,
        "2.50 ms",
    ]


def test_verdicts_are_marked_once_a_run_and_named_worst_first():
    words = [ACCEPT, INCONCLUSIVE, ANOMALOUS, REGRESSION, ""]
    trend = only_trend([record(day, name, verdict=word) for day, word in enumerate(words) for name in ("fp32", "int8")])
    assert [mark.verdict for mark in trend.marks] == words[:4]
    assert trend.verdicts == (ANOMALOUS, REGRESSION, INCONCLUSIVE, ACCEPT)
    assert len(trend.uprights) == 2
    text = Page(history.html([record(day, verdict=word) for day, word in enumerate(words)])).text
    assert all(word in text for word in words)


def test_what_cannot_be_drawn_is_counted_and_stays_in_the_table():
    broken = [record(0, p50=None), record(1, p50=math.nan), record(2, created="yesterday"), record(3, batch=None)]
    (group,) = history.groups([*broken, record(4)], 10)
    assert (group.left_out, group.total, len(group.last)) == (4, 5, 5)
    text = Page(history.html([*broken, record(4)])).text
    assert "4 records have no median or no time that can be read, and are not drawn." in text
    assert "yesterday" in text
    assert "nan" not in text


@pytest.mark.parametrize(
    "records",
    [
        [],
        [record()],
        [with_interval()],
        [record(p50=None)],
        [record(0), record(0)],
        [record(0), record(1e-4)],
        [record(created="0001-01-01T00:00:00"), record(created="9999-12-31T23:59:59+00:00")],
        [record(day, p50=0.0) for day in range(3)],
        [with_interval(day / 3000, 1e-4) for day in range(4)],
        [with_interval(day * 400, 5000.0) for day in range(40)],
        [with_interval(day, 2 + math.sin(day), verdict=REGRESSION) for day in range(500)],
        [record(p50_low_ms=0.0, p50_high_ms=1e9)],
        [record(p50_low_ms=math.nan, p50_high_ms=math.inf, ratio=math.inf, size_mb=math.nan)],
        [record(day, f"variant {day}" + "x" * 200, name="y" * 300) for day in range(12)],
        [record(variant="<script>alert(1)</script>", name='"><b>|`', cpu="\x00\udcff", created="2026-01-01")],
    ],
    ids=range(15),
)
def test_any_records_make_a_whole_page_and_text(records):
    source = history.html(records)
    source.encode("utf-8")
    page = Page(source)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert not any(name in ("href", "src") or name.startswith("on") for _, name, _ in page.attributes)
    numbers = [v for tag, name, v in page.attributes if name in ("cx", "cy", "x1", "y1", "points", "d")]
    assert not any("nan" in value or "inf" in value for value in numbers)
    for group in history.groups(records, 5):
        for trend in group.trends:
            inside(trend)
    assert history.markdown(records).startswith("## History\n\n")


def test_many_points_stay_a_small_page():
    records = [with_interval(day, variant=name) for day in range(500) for name in ("fp32", "int8")]
    assert len(history.html(records)) < 250_000


def test_markdown_has_the_newest_records_of_each_place():
    text = history.markdown([record(day) for day in range(30)] + [record(0, name="a|b", ratio=1.1, against="old")])
    lines = [line for line in text.splitlines() if line.startswith("| 2026")]
    assert len(lines) == 11
    assert r"### a\|b" in text
    assert "1.100 of old" in text
    assert "The last 10 of 30 records." in text
    assert lines[1].startswith("| 2026-02-03 09:00 UTC | `int8` | 2.50 ms |")


def test_time_ticks_are_round_and_fit_their_span():
    def ticks(days):
        return [tick.text for tick in only_trend([record(0), record(days)]).x_ticks]

    assert ticks(1 / 12) == ["09:00", "09:30", "10:00", "10:30", "11:00"]
    assert all(re.fullmatch(r"\d\d-\d\d", tick) for tick in ticks(30))
    assert all(re.fullmatch(r"20\d\d-\d\d", tick) for tick in ticks(3000))
