"""The verdict: measurements and a budget in, findings with their reasons out, and nothing else is looked at.

A figure with an interval keeps its limit when the whole interval does, breaks it when the whole interval does, and is
inconclusive between. `docs/gate.md` says how each limit is decided.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tledge import overflow, yaml12
from tledge.artifacts import (
    ACCEPT,
    ANOMALOUS,
    INCONCLUSIVE,
    REGRESSION,
    Finding,
    Latency,
    LatencyRatio,
    MetricDrop,
    Verdict,
)
from tledge.gate.budget import ALLOW, ANY, Budget, percentile_of
from tledge.gate.measurements import Measured, Measurements, Quality
from tledge.significance import SIGNIFICANT, decide, rows_wanted

SEVERITY = (ACCEPT, INCONCLUSIVE, REGRESSION, ANOMALOUS)
"""From the best to the worst: the worst finding is the whole verdict."""
_SHOWN = 3


def judge(measurements: Measurements, budget: Budget) -> Verdict:
    """The verdict on a bundle; each limit at each scope has a finding, and each sign of trouble one more.

    Args:
        measurements: One entry in `scopes` for each of the budget's.
        budget: The limits.
    """
    findings: list[Finding] = list(_not_finite(measurements))
    fingerprint = measurements.bench.machine.fingerprint
    for scope, measured in zip(budget.scopes, measurements.scopes, strict=True):
        for limit, allowed in scope.limits.items():
            findings.append(_limit(limit, allowed, measured, budget, fingerprint))
        findings += _trouble(measured, budget, measurements)
    findings = list(dict.fromkeys(findings))
    return Verdict(
        max((finding.verdict for finding in findings), key=SEVERITY.index),
        tuple(findings),
        name=measurements.name,
        version=measurements.version,
        against=measurements.against,
        created=measurements.created,
        bench=measurements.bench,
        processors=measurements.processors,
    )


def _limit(limit: str, allowed: float, measured: Measured, budget: Budget, fingerprint: str) -> Finding:
    """The finding on one limit at one scope."""
    say = functools.partial(Finding, limit=limit, allowed=allowed, **_place(limit, measured))
    if limit in measured.missing:
        return say(verdict=INCONCLUSIVE, reason=measured.missing[limit])
    is_percentile = percentile_of(limit) is not None
    if is_percentile:
        found = _percentile(say, allowed, measured, name=limit.removesuffix("_ms"))
    else:
        found = _JUDGES[limit](say, allowed, measured)
    is_time = is_percentile or limit == "load_ms"
    if is_time and found.verdict in (ACCEPT, REGRESSION) and not budget.holds_for(fingerprint):
        return dataclasses.replace(
            found, verdict=INCONCLUSIVE, reason=f"{found.reason}, but {_elsewhere(budget, fingerprint)}"
        )
    return found


Say = Callable[..., Finding]
"""Makes a finding of a limit whose limit and place are already said."""


def _percentile(say: Say, allowed: float, measured: Measured, *, name: str) -> Finding:
    row = measured.latency
    if row is None:
        return say(verdict=INCONCLUSIVE, reason=f"{name} was not measured")
    if name not in row.percentiles_ms:
        needed = f"{row.missing[name]} samples" if name in row.missing else "more samples"
        reason = f"{row.samples} samples are too few for {name}, which needs {needed}; give a longer --duration"
        return say(verdict=INCONCLUSIVE, reason=reason, unit="ms")
    value = row.percentiles_ms[name]
    low, high = _percentile_bounds(row, name, value)
    verdict = _within(value, low, high, allowed)
    sure = {
        ACCEPT: f"at most {high:.4g} ms, within",
        REGRESSION: f"at least {low:.4g} ms, over",
        INCONCLUSIVE: f"between {low:.4g} and {high:.4g} ms, too near to tell from",
        ANOMALOUS: f"{value:.4g} ms, no finite number, for",
    }[verdict]
    more = "; give a longer --duration" if verdict == INCONCLUSIVE else ""
    reason = f"{name} is {sure} the limit of {allowed:.4g} ms ({row.samples} samples){more}"
    return say(verdict=verdict, reason=reason, measured=value, low=low, high=high, unit="ms")


def _percentile_bounds(row: Latency, name: str, value: float) -> tuple[float, float]:
    """What a percentile lies between; the estimate above p50 is itself the upper bound, at 99 % confidence."""
    if name == "p50":
        low, high = row.median_low_ms, row.median_high_ms
        return (value if low is None else low), (value if high is None else high)
    return row.percentiles_low_ms.get(name, 0.0 if row.median_low_ms is None else row.median_low_ms), value


def _footprint(say: Say, allowed: float, measured: Measured, *, figure: str, what: str, unit: str) -> Finding:
    if measured.footprint is None:
        return say(verdict=INCONCLUSIVE, reason=f"{what} was not measured")
    return _point(say, allowed, getattr(measured.footprint, figure), f"{what}, the median of fresh processes,", unit)


def _size(say: Say, allowed: float, measured: Measured) -> Finding:
    return _point(say, allowed, measured.size_mb, "the graph with its weights", "MB")


def _parity(say: Say, allowed: float, measured: Measured) -> Finding:
    if measured.parity is None:
        return say(verdict=INCONCLUSIVE, reason="parity was not measured")
    what = "the largest difference of a golden output from torch's, as a share of the largest output,"
    return _point(say, allowed, measured.parity.error, what, "")


def _point(say: Say, allowed: float, value: float, what: str, unit: str) -> Finding:
    """The finding on a figure that is decided as it is."""
    verdict = _within(value, value, value, allowed)
    words = {ACCEPT: "within", REGRESSION: "over", ANOMALOUS: "no finite number, for"}[verdict]
    space = f" {unit}" if unit else ""
    reason = f"{what} is {value:.4g}{space}, {words} the limit of {allowed:.4g}{space}"
    return say(verdict=verdict, reason=reason, measured=value, unit=unit)


def _slowdown(say: Say, allowed: float, measured: Measured) -> Finding:
    """Held to the limit by the paired interval, and to what the host's own noise allows to say.

    Noise larger than the difference asked about leaves nothing to say, unless the interval is further from the limit
    than that noise.
    """
    comparison = measured.comparison
    if comparison is None:
        return say(verdict=INCONCLUSIVE, reason="the slowdown was not measured; give --against OLD")
    ratio, noise = comparison.ratio, _noise(comparison.noise)
    slower = (ratio.ratio - 1, ratio.low - 1, ratio.high - 1)
    verdict = _within(*slower, allowed)
    far = ratio.high * (1 + noise) <= 1 + allowed or ratio.low > (1 + allowed) * (1 + noise)
    if verdict == REGRESSION and not (slower[0] > noise or far):
        verdict = INCONCLUSIVE
    if verdict == ACCEPT and not (noise <= allowed or far):
        verdict = INCONCLUSIVE
    measured_as = (
        f"{_change(slower[0])} {comparison.reference} (95 % interval {slower[1]:+.1%} to {slower[2]:+.1%}, "
        f"{ratio.samples} paired rounds)"
    )
    end = {
        ACCEPT: f"within the limit of {allowed:.1%}",
        REGRESSION: f"over the limit of {allowed:.1%} and this host's noise of {noise:.1%}",
        ANOMALOUS: "which are no finite numbers",
        INCONCLUSIVE: f"too near to tell from the limit of {allowed:.1%}; give a longer --duration",
    }[verdict]
    if verdict == INCONCLUSIVE and noise > allowed:
        end = f"and this host's noise of {noise:.1%} is larger than the {allowed:.1%} asked about; use a quieter host"
    reason = f"{comparison.candidate} is {measured_as}, {end}"
    return say(verdict=verdict, reason=reason, measured=slower[0], low=slower[1], high=slower[2])


def _noise(noise: LatencyRatio) -> float:
    """How much slower than itself the reference may seem on this host, at the worse end of the interval."""
    return max(noise.high, 1 / noise.low if noise.low > 0 else math.inf) - 1


def _change(share: float) -> str:
    return f"{abs(share):.1%} {'slower' if share >= 0 else 'faster'} than"


def _metric(say: Say, allowed: float, measured: Measured, *, from_above: bool) -> Finding:
    quality = measured.quality
    if quality is None:
        return say(verdict=INCONCLUSIVE, reason="the metric was not measured; give --rows FILE")
    low = quality.value if quality.low is None else quality.low
    high = quality.value if quality.high is None else quality.high
    if from_above:
        verdict = _within(quality.value, low, high, allowed)
    else:
        verdict = _within(-quality.value, -high, -low, -allowed)
    words = {
        ACCEPT: f"at or {'below' if from_above else 'above'}",
        REGRESSION: "above" if from_above else "below",
        INCONCLUSIVE: "too near to tell from",
        ANOMALOUS: "no finite number, for",
    }[verdict]
    interval = "no interval known" if quality.low is None else f"95 % interval {low:.4g} to {high:.4g}"
    more = _more_rows(quality) if verdict == INCONCLUSIVE else ""
    reason = (
        f"{quality.metric} is {quality.value:.4g} on {_rows_of(quality)} ({interval}), {words} the limit of "
        f"{allowed:.4g}{more}"
    )
    return say(verdict=verdict, reason=reason, measured=quality.value, low=quality.low, high=quality.high)


def _rows_of(quality: Quality) -> str:
    return f"{quality.rows or 'the'} {quality.unit} of {quality.source}"


def _metric_drop(say: Say, allowed: float, measured: Measured) -> Finding:
    """A regression where the drop is over the limit and real; accepted where the interval's end is within it."""
    quality = measured.quality
    if quality is None or quality.paired is None:
        return say(verdict=INCONCLUSIVE, reason="the metric was not compared; give --rows FILE")
    pair, drop, more = quality.paired, _drop(quality), _more_rows(quality)
    verdict, wanted = decide(pair, allowed), rows_wanted(pair, allowed)
    end = {
        ACCEPT: f"and the {drop} is within the limit of {allowed:.4g}",
        REGRESSION: f"and the {drop} is over the limit of {allowed:.4g}",
        ANOMALOUS: "which are no finite numbers",
        INCONCLUSIVE: f"and these {quality.unit} cannot tell whether the {drop} is within the limit of {allowed:.4g}"
        + (more and (f"{more}, about {wanted:,}" if wanted else more)),
    }[verdict]
    return say(
        verdict=verdict,
        reason=f"{_told(quality, pair)}, {end}",
        measured=pair.drop,
        low=pair.low,
        high=pair.high,
    )


def _told(quality: Quality, pair: MetricDrop) -> str:
    """The change, and what it is called: real, or not to be told from chance."""
    called, interval = "not distinguishable from chance", "too few for a test"
    if pair.low is not None and pair.high is not None and pair.p_value is not None:
        called = "a real change" if pair.p_value < SIGNIFICANT else called
        called = "no change" if pair.low == pair.high == 0 else called
        interval = (
            f"95 % interval of the {_drop(quality)} {pair.low:+.4g} to {pair.high:+.4g}, {pair.test} p = "
            f"{pair.p_value:.2g}"
        )
    side = "below" if (pair.drop >= 0) != quality.lower_is_better else "above"
    return (
        f"{quality.metric} {quality.value:.4g} is {abs(pair.drop):.4g} {side} "
        f"the {pair.other:.4g} of {pair.reference} on the same {pair.rows} {quality.unit} of {quality.source} "
        f"({interval}): {called}"
    )


def _drop(quality: Quality) -> str:
    """What a change for the worse is called."""
    return "rise" if quality.lower_is_better else "drop"


def _more_rows(quality: Quality) -> str:
    """What to do where rows cannot tell; a language model's blocks are those that its run scored."""
    return "; give more rows" if quality.unit == "rows" else ""


_JUDGES: Mapping[str, Callable[[Say, float, Measured], Finding]] = {
    "load_ms": functools.partial(_footprint, figure="load_ms", what="the time to load", unit="ms"),
    "peak_memory_mb": functools.partial(_footprint, figure="peak_memory_mb", what="peak memory", unit="MB"),
    "size_mb": _size,
    "max_parity_error": _parity,
    "max_slowdown": _slowdown,
    "min_metric": functools.partial(_metric, from_above=False),
    "max_metric": functools.partial(_metric, from_above=True),
    "max_metric_drop": _metric_drop,
}


def _within(value: float, low: float, high: float, allowed: float) -> str:
    """Whether a figure of which less is better, and its interval, keep a limit."""
    if not all(map(math.isfinite, (value, low, high))):
        return ANOMALOUS
    if high <= allowed:
        return ACCEPT
    return REGRESSION if low > allowed else INCONCLUSIVE


def _elsewhere(budget: Budget, fingerprint: str) -> str:
    if not fingerprint:
        return f"this machine has no fingerprint; limits on time count here only with machine: {ANY}"
    named = f"for {', '.join(budget.machines)}" if budget.machines else "for no machine yet"
    return f"the budget's limits on time hold {named}; add machine: {yaml12.inline(fingerprint)} to hold them here"


def _place(limit: str, measured: Measured) -> dict[str, Any]:
    """As much of the scope as a limit depends on, so that scopes which differ in the rest give one finding."""
    place = {"variant": measured.variant, "provider": measured.provider}
    if limit == "size_mb":
        return {"variant": measured.variant}
    if limit in ("min_metric", "max_metric", "max_metric_drop", "max_parity_error"):
        return place
    if limit == "load_ms":
        return place | {"threads": measured.threads}
    return place | {"batch": measured.batch, "sequence": measured.sequence, "threads": measured.threads}


def _trouble(measured: Measured, budget: Budget, measurements: Measurements) -> Iterator[Finding]:
    """What makes the figures of a scope untrustworthy, whatever the limits are."""
    yield from _wrong_provider(measured, strict=measurements.strict)
    yield from _too_fast(measured, budget.anomalous_speedup)
    yield from _wrong_counts(measured)
    yield from _overflow(measured, budget)
    quality = measured.quality
    if quality is None:
        return
    say = functools.partial(Finding, variant=measured.variant, provider=measured.provider)
    if quality.calibration_rows:
        reason = f"{quality.calibration_rows} of the {quality.rows} evaluation rows are among those that the "
        yield say("calibration", ANOMALOUS, f"{reason}bundle was calibrated with; evaluate on other rows")
    if quality.non_finite:
        reason = f"{quality.non_finite} of {quality.rows} evaluation rows have an output that is no finite number"
        yield say("finite", ANOMALOUS, reason)
    if quality.relabelled:
        reason = f"{quality.relabelled} rows have other labels than those that {measurements.against} was scored on"
        yield say("labels", ANOMALOUS, f"{reason}; score both on the same rows with --rows FILE")
    pair = quality.paired
    is_real = pair is not None and pair.p_value is not None and pair.p_value < SIGNIFICANT
    if pair is not None and is_real and -pair.drop > budget.anomalous_metric_gain:
        side = "below" if quality.lower_is_better else "above"
        reason = f"{quality.metric} is {-pair.drop:.4g} {side} that of {pair.reference}, more than the "
        end = f"{budget.anomalous_metric_gain:.4g} that is plausible; look for evaluation rows in training"
        yield say("anomalous_metric_gain", ANOMALOUS, reason + end, budget.anomalous_metric_gain, -pair.drop)


def _wrong_provider(measured: Measured, *, strict: bool) -> Iterator[Finding]:
    say = functools.partial(Finding, "provider", variant=measured.variant, provider=measured.provider)
    asked = measured.provider_name
    if measured.comparison is not None and measured.comparison.provider not in (measured.provider, asked):
        yield say(ANOMALOUS, f"the comparison ran on {measured.comparison.provider}, not on {measured.provider}")
    if measured.footprint is None:
        return
    nodes = measured.footprint.nodes_by_provider
    total, there = sum(nodes.values()), nodes.get(asked, 0)
    is_cpu = measured.provider == "cpu"
    on_purpose = sum(measured.footprint.shape_arithmetic.values())
    if not total and not is_cpu:
        yield say(INCONCLUSIVE, f"onnxruntime does not tell which nodes ran on {asked}; use onnxruntime 1.31 or later")
    elif total and there < total and (is_cpu or not there or (strict and there + on_purpose < total)):
        counted = ", ".join(f"{count} on {name}" for name, count in nodes.items())
        yield say(ANOMALOUS, f"{there} of {total} nodes ran on the provider asked for, {asked}: {counted}")


def _too_fast(measured: Measured, plausible: float) -> Iterator[Finding]:
    comparison = measured.comparison
    if comparison is None or not comparison.ratio.ratio * plausible < 1:
        return
    times = 1 / comparison.ratio.ratio if comparison.ratio.ratio > 0 else math.inf
    reason = f"{comparison.candidate} is {times:.1f} times as fast as {comparison.reference}, more than the "
    yield Finding(
        limit="anomalous_speedup",
        verdict=ANOMALOUS,
        reason=f"{reason}{plausible:g} times that is plausible; verify the bundle's answers",
        allowed=plausible,
        measured=times,
        **_place("max_slowdown", measured),
    )


def _wrong_counts(measured: Measured) -> Iterator[Finding]:
    say = functools.partial(Finding, "samples", ANOMALOUS)
    quality, latency = measured.quality, measured.latency
    if quality is not None and quality.other_rows is not None and quality.other_rows != quality.rows:
        how = " with --rows FILE" if quality.unit == "rows" else ""
        yield say(
            f"the two were scored on different numbers of {quality.unit}, {quality.rows} and {quality.other_rows}; "
            f"score both on the same {quality.unit}{how}",
            **_place("min_metric", measured),
        )
    if latency is not None and latency.against is not None and latency.against.samples != latency.samples:
        reason = f"{latency.samples} runs were timed, but {latency.against.samples} rounds of "
        yield say(f"{reason}{latency.against.reference} beside them", **_place("p50_ms", measured))


def _overflow(measured: Measured, budget: Budget) -> Iterator[Finding]:
    """Figures of a graph that answers otherwise on some processors hold for this kind alone."""
    if not measured.overflow.possible:
        return
    told = f"{overflow.told(measured.overflow)}: it answers otherwise on x86 without VNNI"
    if budget.overflow == ALLOW:
        yield Finding("overflow", ACCEPT, f"{told}, which the budget allows", variant=measured.variant)
    else:
        end = f"; {overflow.MEND}, or allow it in the budget: overflow: {ALLOW}"
        yield Finding("overflow", ANOMALOUS, told + end, variant=measured.variant)


def _not_finite(measurements: Measurements) -> Iterator[Finding]:
    found = list(_not_finite_in(dataclasses.asdict(measurements), ""))
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        listed = ", ".join(found[:_SHOWN])
        yield Finding("finite", ANOMALOUS, f"figures that are no finite numbers cannot be judged: {listed}{more}")


def _not_finite_in(value: Any, path: str) -> Iterator[str]:
    """The ways to all figures that are NaN or infinite."""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{path.lstrip('.')} is {value}"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _not_finite_in(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _not_finite_in(item, f"{path}[{i}]")
