"""Numbers as text: every figure of every report is formatted here."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping

from tledge.artifacts import LatencyRatio

NOT_MEASURED = "not measured"

_METRIC_NAMES = {
    "f1": "F1",
    "map": "mAP@50:95",
    "map_50": "mAP@50",
    "map_75": "mAP@75",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "overlap_f1": "overlap F1",
    "exact_match": "exact match",
    "log_loss": "log loss",
    "balanced_accuracy": "balanced accuracy",
    "roc_auc": "ROC AUC",
    "r2": "R²",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "next_token_accuracy": "next-token accuracy",
}
_IN_UNITS = frozenset({"mae", "rmse", "perplexity", "pseudo_perplexity"})
"""Metrics that can have any size, such as those in the unit of what is estimated."""
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def metric(value: float | None) -> str:
    """A metric with three decimals, and with more where three would turn a value below 1 into 1.000."""
    if value is None or math.isnan(value):
        return NOT_MEASURED
    if value < 1:
        for digits in (3, 4, 5):
            if round(value, digits) < 1:
                return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0 makes -0.0 a 0
    return f"{value:.3f}"


def score(name: str, value: float | None) -> str:
    """A metric's value by its name: errors with three significant digits, and all others as `metric` does."""
    if value is None or name not in _IN_UNITS:
        return metric(value)
    return quantity(value)


def gain(value: float) -> str:
    """A difference of two metrics with its sign: `+0.057`, `-0.012`."""
    return f"{round(value, 3) + 0.0:+.3f}"


def change(name: str, value: float) -> str:
    """A difference of two values of a metric, with its sign and as many digits as `score` gives: `+0.057`, `-12.3`."""
    if name not in _IN_UNITS:
        return gain(value)
    return f"{'+' if value > 0 else '-' if value < 0 else ''}{quantity(abs(value))}"


def relative(value: float, reference: float) -> str:
    """How much more or less a value is than a positive reference, in percent: `+0.3 %`, `-12.0 %`."""
    return f"{round(100 * (value / reference - 1), 1) + 0.0:+.1f} %"


def metric_name(name: str) -> str:
    """A metric's name in words: `micro F1` for `micro_f1`."""
    return _METRIC_NAMES.get(name, name.replace("_", " "))


def capital(text: str) -> str:
    """The text with a capital first letter and the rest as it is; names such as `fp32` or `int8_dynamic` stay."""
    first = text.partition(" ")[0]
    return text if re.search(r"[\d_]", first) else text[:1].upper() + text[1:]


def milliseconds(value: float) -> str:
    """Milliseconds with about three digits, without the unit: `0.123`, `4.56`, `78.9`, `1,234`."""
    for below, digits in ((1, 3), (10, 2), (100, 1)):
        if round(value, digits) < below:
            return f"{value:.{digits}f}"
    return f"{value:,.0f}"


def megabytes(value: float) -> str:
    """A size in MB with one decimal and the unit; below 0.1 MB with two significant digits."""
    return f"{value:,.1f} MB" if value >= 0.1 else f"{value:.2g} MB"


def size(size_bytes: int) -> str:
    """Bytes as MB of 10^6 bytes."""
    return megabytes(size_bytes / 1e6)


def count(value: int) -> str:
    """A whole number with a comma between thousands."""
    return f"{value:,}"


def rows(value: int) -> str:
    """A number of rows: `1 row`, `2,330 rows`."""
    return f"{value:,} row" if value == 1 else f"{value:,} rows"


def parameters(value: int) -> str:
    """A number of parameters: `22.7 million`, `5,775`."""
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if value >= unit:
            return f"{value / unit:.1f} {name}"
    return f"{value:,}"


def share(part: float, whole: float) -> str:
    """A part in percent: `0.025 %`, `12 %`, `100 %`."""
    percent = 100 * part / whole
    return f"{percent:.2g} %" if 0 < percent < 10 else f"{percent:.0f} %"


def duration(seconds: float) -> str:
    """A duration: `0.4 s`, `42 s`, `3 min 20 s`, `1 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(iso: str) -> str:
    """A moment in ISO 8601 as `2026-01-02 03:04 UTC`; any other text as it is."""
    try:
        parsed = datetime.datetime.fromisoformat(iso)
    except ValueError:
        return iso
    zone = parsed.astimezone(datetime.UTC) if parsed.tzinfo else parsed
    return f"{zone:%Y-%m-%d %H:%M}{' UTC' if parsed.tzinfo else ''}"


def difference(value: float) -> str:
    """A small difference: `1.2 × 10⁻⁶` with spaces that do not break, or `0`."""
    if not value:
        return "0"
    digits, _, exponent = f"{value:.1e}".partition("e")
    return f"{digits}\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}{power_of_ten(int(exponent))}"


def power_of_ten(exponent: int) -> str:
    """A power of ten: `10⁻⁴`."""
    return f"10{str(exponent).translate(_SUPERSCRIPT)}"


def number(value: float) -> str:
    """A number with at most three significant digits and no exponent where it can: `40`, `2.5`, `0.351`."""
    return f"{value:.3g}"


def quantity(value: float) -> str:
    """A number of any size with about three digits, and a comma between thousands: `1,234`, `98.0`, `-0.351`."""
    for least, digits in ((100, 0), (10, 1), (1, 2)):
        if abs(value) >= least:
            return f"{value:,.{digits}f}"
    return f"{value:#.3g}" if value else "0"


def spread(quantiles: Mapping[str, float]) -> str:
    """Quantiles named `p0`, `p50` ... as a line: `32 to 512, median 300`; empty where they are not known."""
    if not {"p0", "p50", "p100"} <= quantiles.keys():
        return ""
    found = (quantiles[name] for name in ("p0", "p50", "p100"))
    low, middle, high = (f"{value:,.0f}" if float(value).is_integer() else quantity(value) for value in found)
    return low if low == high else f"{low} to {high}, median {middle}"


def times(value: LatencyRatio) -> str:
    """`4.2 times as fast`, `1.3 times as slow`, or `about as fast` where the interval holds 1."""
    if value.low <= 1 <= value.high:
        return "about as fast"
    factor, word = (1 / value.ratio, "fast") if value.ratio < 1 else (value.ratio, "slow")
    return f"{_factor(factor, factor)} times as {word}"


def times_interval(value: LatencyRatio) -> str:
    """The 95 % interval of what `times` says; of the ratio of times where the interval holds 1."""
    if value.low <= 1 <= value.high:
        return f"{value.low:.2f} to {value.high:.2f} of its time"
    low, high = (1 / value.high, 1 / value.low) if value.ratio < 1 else (value.low, value.high)
    factor = 1 / value.ratio if value.ratio < 1 else value.ratio
    return f"{_factor(low, factor)} to {_factor(high, factor)}"


def reference(name: str) -> str:
    """What a candidate is compared with, in a sentence: `torch eager`, `the teacher in torch eager`."""
    return f"the {name}" if name.startswith("teacher") else name


def speed(value: LatencyRatio) -> str:
    """`4.2 times as fast (3.9 to 4.4)`: the ratio with its 95 % interval."""
    return f"{times(value)} ({times_interval(value)})"


def setting(
    batch: int,
    sequence: int | None,
    threads: int,
    *,
    provider: str = "cpu",
    decoding: bool = False,
    new_tokens: int | None = None,
) -> str:
    """A setting of a benchmark in words: `batch 1, length 32, 1 thread`, without a length where inputs have none.

    Another provider than the CPU is named: `batch 1, 1 thread, cuda`.

    For one token of a language model's, `decoding`, it is `batch 1, one token after 32, 1 thread`, and for a generation
    of `new_tokens`, `batch 1, 64 tokens after 32, 1 thread`.
    """
    length = "" if sequence is None else f" length {sequence},"
    if new_tokens is not None:
        length = f" {new_tokens} tokens after {sequence},"
    elif decoding and sequence is not None:
        length = f" one token after {sequence},"
    where = "" if provider == "cpu" else f", {provider}"
    return f"batch {batch},{length} {threads} {'thread' if threads == 1 else 'threads'}{where}"


def _factor(value: float, scale: float) -> str:
    digits = 2 if scale < 1.1 else 1 if scale < 20 else 0
    return f"{value:.{digits}f}"
