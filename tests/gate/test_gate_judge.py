import dataclasses
import itertools
import json
import math

import pytest

from tledge import artifacts
from tledge.artifacts import (
    ACCEPT,
    ANOMALOUS,
    INCONCLUSIVE,
    REGRESSION,
    BenchResult,
    Comparison,
    Footprint,
    Latency,
    LatencyRatio,
    Machine,
    MetricDrop,
    Overflow,
)
from tledge.gate.budget import ALLOW, Budget, Scope
from tledge.gate.judge import SEVERITY, judge
from tledge.gate.measurements import Measured, Measurements, Parity, Quality

CPU = "CPUExecutionProvider"
MACHINE = Machine("a cpu", "x86_64", (), 2, None, 8000.0, "Linux", "3.13", "1.31", (CPU,), None, fingerprint="a1b2")
LATENCY = Latency(
    "int8", 1, 32, 1, 530, 8.0, {"p50": 8.0, "p95": 10.0}, {"p99": 662}, None, 7.9, 8.1, {"p95": 9.0}
)  # fmt: skip
FOOTPRINT = Footprint("int8", 20.0, 50.0, 10.0, 120.0, 60.0, {CPU: 30})
COMPARISON = Comparison(
    "new", "old", 1, 32, 1, "cpu", LatencyRatio("old", 1.01, 1.005, 1.015, 200),
    LatencyRatio("old", 1, 0.995, 1.005, 90), 0.02, "same", "", 8.08, 8.0,
)  # fmt: skip
PAIRED = MetricDrop("old", 0.903, 0.003, -0.005, 0.009, 0.6, "exact McNemar test", 500)
QUALITY = Quality("accuracy", 0.9, 500, "test.csv", 0.88, 0.92, PAIRED, 500)
LOSS = Quality("loss", 3.31, 100, "the run's test split", 3.27, 3.35, lower_is_better=True, unit="blocks")
MEASURED = Measured(
    "int8", "cpu", CPU, 1, 32, 1, 22.0, LATENCY, FOOTPRINT, COMPARISON, QUALITY, Parity(0.05, 0.01)
)  # fmt: skip
KEPT = {
    "p50_ms": 9.0, "p95_ms": 12.0, "load_ms": 200.0, "size_mb": 25.0, "peak_memory_mb": 150.0, "max_metric_drop": 0.01,
    "min_metric": 0.85, "max_metric": 0.95, "max_parity_error": 0.02, "max_slowdown": 0.02,
}  # fmt: skip
BROKEN = {
    "p50_ms": 5.0, "p95_ms": 5.0, "load_ms": 20.0, "size_mb": 2.0, "peak_memory_mb": 15.0, "max_parity_error": 0.001,
    "min_metric": 0.95, "max_metric": 0.85,
}  # fmt: skip


def change(of, **changes):
    return dataclasses.replace(of, **changes)


def measurements(measured=MEASURED, **changes):
    return Measurements(
        **{
            "name": "mine",
            "version": "0123456789ab",
            "against": "mine ba9876543210",
            "bench": BenchResult(MACHINE, (LATENCY,), (FOOTPRINT,)),
            "scopes": (measured,),
            **changes,
        }
    )


def budget(limits=None, **changes):
    return Budget((Scope(KEPT if limits is None else limits),), **{"machines": ("a1b2",), **changes})


def verdict(measured=MEASURED, limits=None, **changes):
    return judge(measurements(measured), budget(limits, **changes))


def only(found):
    assert len(found.findings) == 1, found.findings
    return found.findings[0]


def with_ratio(ratio, low, high, noise=0.005):
    return change(
        MEASURED,
        comparison=change(
            COMPARISON,
            ratio=LatencyRatio("old", ratio, low, high, 200),
            noise=LatencyRatio("old", 1.0, 1 / (1 + noise), 1 + noise, 90),
        ),
    )


def with_pair(**changes):
    return change(MEASURED, quality=change(QUALITY, paired=change(PAIRED, **changes)))


def test_everything_within_its_limits_is_accepted_with_a_reason_each():
    found = verdict()
    assert found.verdict == ACCEPT
    assert {finding.limit for finding in found.findings} == set(KEPT)
    assert all(finding.verdict == ACCEPT and finding.reason for finding in found.findings)
    assert (found.name, found.version, found.against) == ("mine", "0123456789ab", "mine ba9876543210")
    assert found.bench.machine == MACHINE


@pytest.mark.parametrize("limit", BROKEN)
def test_every_limit_can_be_broken(limit):
    found = verdict(limits={**KEPT, limit: BROKEN[limit]})
    assert found.verdict == REGRESSION
    assert [finding.limit for finding in found.findings if finding.verdict == REGRESSION] == [limit]


def test_a_reason_has_the_figures_and_their_unit():
    finding = only(verdict(limits={"p95_ms": 8.0}))
    assert finding.reason == "p95 is at least 9 ms, over the limit of 8 ms (530 samples)"
    assert (finding.measured, finding.low, finding.high, finding.allowed) == (10.0, 9.0, 10.0, 8.0)
    assert (finding.unit, finding.variant, finding.batch, finding.sequence, finding.threads) == ("ms", "int8", 1, 32, 1)


def test_a_percentile_is_inconclusive_where_the_limit_is_between_its_bounds():
    finding = only(verdict(limits={"p95_ms": 9.5}))
    assert finding.verdict == INCONCLUSIVE
    assert "between 9 and 10 ms, too near to tell from the limit of 9.5 ms" in finding.reason


def test_a_percentile_without_enough_samples_says_how_many_it_needs():
    finding = only(verdict(limits={"p99_ms": 100}))
    assert finding.verdict == INCONCLUSIVE
    assert "530 samples are too few for p99, which needs 662 samples" in finding.reason


def test_a_percentile_above_its_limit_without_a_lower_bound_is_not_called_a_regression():
    row = change(LATENCY, percentiles_low_ms={}, median_low_ms=None)
    assert verdict(change(MEASURED, latency=row), {"p95_ms": 9.0}).verdict == INCONCLUSIVE


@pytest.mark.parametrize("limit", ["p95_ms", "load_ms"])
@pytest.mark.parametrize("allowed", [1000.0, 1.0])
def test_limits_on_time_are_inconclusive_on_another_machine_and_tell_its_fingerprint(limit, allowed):
    for machines in ((), ("ffff",)):
        finding = only(verdict(limits={limit: allowed}, machines=machines))
        assert finding.verdict == INCONCLUSIVE
        assert "add machine: a1b2" in finding.reason
        assert finding.measured is not None
    assert only(verdict(limits={limit: allowed}, machines=("any",))).verdict in (ACCEPT, REGRESSION)


@pytest.mark.parametrize("limit", [limit for limit in KEPT if limit not in ("p50_ms", "p95_ms", "load_ms")])
def test_other_limits_hold_on_every_machine(limit):
    assert verdict(limits={limit: KEPT[limit]}, machines=()).verdict == ACCEPT


def test_a_machine_without_a_fingerprint_is_told_of():
    nameless = BenchResult(change(MACHINE, fingerprint=""), (), ())
    found = judge(measurements(bench=nameless), budget({"p95_ms": 12}, machines=("",)))
    assert "this machine has no fingerprint" in only(found).reason


@pytest.mark.parametrize(
    ("ratio", "low", "high", "noise", "expected"),
    [
        (1.0, 0.99, 1.01, 0.005, ACCEPT),
        (0.8, 0.78, 0.82, 0.005, ACCEPT),
        (1.05, 1.04, 1.06, 0.005, REGRESSION),
        (1.02, 1.01, 1.03, 0.005, INCONCLUSIVE),
        (1.0, 0.99, 1.01, 0.04, INCONCLUSIVE),
        (1.03, 1.025, 1.035, 0.04, INCONCLUSIVE),
        (1.15, 1.10, 1.20, 0.04, REGRESSION),
        (0.3, 0.29, 0.31, 0.04, ACCEPT),
        (0.97, 0.96, 0.98, 0.04, ACCEPT),
        (0.98, 0.97, 0.99, 0.04, INCONCLUSIVE),
    ],
)
def test_a_slowdown_is_decided_by_its_interval_and_the_hosts_noise(ratio, low, high, noise, expected):
    finding = only(verdict(with_ratio(ratio, low, high, noise), {"max_slowdown": 0.02}))
    assert finding.verdict == expected
    if noise == 0.04 and expected == INCONCLUSIVE:
        assert "this host's noise of 4.0% is larger than the 2.0% asked about" in finding.reason


@pytest.mark.parametrize(("low", "high"), [(0.95, 1.0), (1.0, 1.06), (0.0, 1.0)])
def test_the_hosts_noise_is_that_of_the_worse_end_of_the_interval(low, high):
    comparison = change(COMPARISON, noise=LatencyRatio("old", 1.0, low, high, 90))
    finding = only(verdict(change(MEASURED, comparison=comparison), {"max_slowdown": 0.05}))
    assert finding.verdict == INCONCLUSIVE
    assert "is larger than the 5.0% asked about" in finding.reason


@pytest.mark.parametrize(
    ("drop", "low", "high", "p", "expected"),
    [
        (0.003, -0.005, 0.009, 0.6, ACCEPT),
        (0.003, -0.015, 0.020, 0.7, INCONCLUSIVE),
        (0.003, -0.005, 0.011, 0.6, INCONCLUSIVE),
        (0.01, 0.01, 0.01, 0.01, ACCEPT),
        (0.015, -0.002, 0.030, 0.1, INCONCLUSIVE),
        (0.05, 0.03, 0.07, 1e-6, REGRESSION),
        (0.008, 0.002, 0.014, 0.01, INCONCLUSIVE),
        (-0.02, -0.03, -0.01, 0.01, ACCEPT),
    ],
)
def test_a_metric_drop_is_a_regression_only_where_it_is_beyond_the_limit_and_real(drop, low, high, p, expected):
    measured = with_pair(drop=drop, low=low, high=high, p_value=p)
    assert only(verdict(measured, {"max_metric_drop": 0.01})).verdict == expected


def test_a_small_change_is_called_what_it_is():
    measured = with_pair(drop=0.003, low=-0.012, high=0.018, p_value=0.74)
    reason = only(verdict(measured, {"max_metric_drop": 0.01})).reason
    assert "0.003 below the 0.903 of old on the same 500 rows" in reason
    assert "p = 0.74): not distinguishable from chance" in reason
    assert "give more rows, about 2,300" in reason


@pytest.mark.parametrize(("floor", "expected"), [(0.85, ACCEPT), (0.9, INCONCLUSIVE), (0.93, REGRESSION)])
def test_a_floor_is_decided_by_the_metrics_interval(floor, expected):
    assert verdict(limits={"min_metric": floor}).verdict == expected


@pytest.mark.parametrize(("ceiling", "expected"), [(3.4, ACCEPT), (3.33, INCONCLUSIVE), (3.2, REGRESSION)])
def test_a_ceiling_is_decided_by_the_interval_of_a_loss(ceiling, expected):
    finding = only(verdict(change(MEASURED, quality=LOSS), {"max_metric": ceiling}))
    words = {ACCEPT: "at or below", INCONCLUSIVE: "too near to tell from", REGRESSION: "above"}[expected]
    assert finding.verdict == expected
    assert finding.reason == (
        f"loss is 3.31 on 100 blocks of the run's test split (95 % interval 3.27 to 3.35), {words} the limit of "
        f"{ceiling:g}"
    )


@pytest.mark.parametrize(
    ("allowed", "expected", "told"),
    [(0.08, ACCEPT, "is within"), (0.02, REGRESSION, "is over"), (0.055, INCONCLUSIVE, "is within")],
)
def test_a_loss_that_rises_is_worse(allowed, expected, told):
    pair = change(PAIRED, other=3.26, drop=0.05, low=0.04, high=0.06, p_value=1e-6, rows=100)
    finding = only(verdict(change(MEASURED, quality=change(LOSS, paired=pair)), {"max_metric_drop": allowed}))
    assert finding.verdict == expected
    assert "loss 3.31 is 0.05 above the 3.26 of old on the same 100 blocks of the run's test split" in finding.reason
    assert "95 % interval of the rise +0.04 to +0.06" in finding.reason
    assert finding.reason.endswith(f"the rise {told} the limit of {allowed:g}"), "blocks cannot be added"


def test_runs_that_scored_other_numbers_of_blocks_are_anomalous():
    found = verdict(change(MEASURED, quality=change(LOSS, other_rows=80)), {"max_metric": 4})
    assert found.verdict == ANOMALOUS
    assert found.findings[-1].reason == (
        "the two were scored on different numbers of blocks, 100 and 80; score both on the same blocks"
    )


def test_a_loss_that_falls_too_far_is_anomalous():
    pair = change(PAIRED, other=3.81, drop=-0.5, low=-0.6, high=-0.4, p_value=1e-6, rows=100)
    found = verdict(change(MEASURED, quality=change(LOSS, paired=pair)), {"max_metric_drop": 0.01})
    assert found.verdict == ANOMALOUS
    assert "loss is 0.5 below that of old, more than the 0.1 that is plausible" in found.findings[-1].reason


@pytest.mark.parametrize(("floor", "expected"), [(0.89, ACCEPT), (0.91, REGRESSION)])
def test_a_floor_without_an_interval_is_decided_by_the_figure(floor, expected):
    measured = change(MEASURED, quality=change(QUALITY, low=None, high=None))
    finding = only(verdict(measured, {"min_metric": floor}))
    assert finding.verdict == expected
    assert "no interval known" in finding.reason


@pytest.mark.parametrize("limit", KEPT)
def test_what_could_not_be_measured_is_inconclusive_and_says_what_to_give(limit):
    bare = Measured("int8", "cpu", CPU, 1, 32, 1, 22.0, missing={limit: "give --against OLD"})
    finding = only(verdict(bare, {limit: KEPT[limit]}))
    assert (finding.verdict, finding.reason) == (INCONCLUSIVE, "give --against OLD")


@pytest.mark.parametrize("limit", [limit for limit in KEPT if limit != "size_mb"])
def test_what_was_not_measured_is_never_accepted(limit):
    bare = Measured("int8", "cpu", CPU, 1, 32, 1, 22.0)
    assert verdict(bare, {limit: KEPT[limit]}).verdict == INCONCLUSIVE


ANOMALIES = {
    "anomalous_speedup": with_ratio(0.1, 0.09, 0.11),
    "anomalous_metric_gain": with_pair(drop=-0.3, low=-0.4, high=-0.2, p_value=1e-9),
    "samples": change(MEASURED, quality=change(QUALITY, other_rows=480)),
    "calibration": change(MEASURED, quality=change(QUALITY, calibration_rows=3)),
    "labels": change(MEASURED, quality=change(QUALITY, relabelled=2)),
    "finite": change(MEASURED, quality=change(QUALITY, non_finite=1)),
    "provider": change(MEASURED, footprint=change(FOOTPRINT, nodes_by_provider={"CUDAExecutionProvider": 30})),
}


@pytest.mark.parametrize("sign", ANOMALIES)
def test_every_sign_of_trouble_is_anomalous_whatever_the_limits_are(sign):
    found = verdict(ANOMALIES[sign])
    assert found.verdict == ANOMALOUS
    assert [finding.limit for finding in found.findings if finding.verdict == ANOMALOUS] == [sign]


def test_rounds_that_are_not_as_many_as_the_runs_are_anomalous():
    row = change(LATENCY, against=LatencyRatio("fp32", 0.5, 0.4, 0.6, 529))
    found = verdict(change(MEASURED, latency=row))
    assert [f.limit for f in found.findings if f.verdict == ANOMALOUS] == ["samples"]


@pytest.mark.parametrize(
    ("nodes", "strict", "expected"),
    [
        ({"CUDAExecutionProvider": 30}, True, None),
        ({"CUDAExecutionProvider": 28, CPU: 2}, False, None),
        ({"CUDAExecutionProvider": 28, CPU: 2}, True, ANOMALOUS),
        ({"CUDAExecutionProvider": 28, CPU: 1}, True, None),
        ({CPU: 30}, False, ANOMALOUS),
        ({}, False, INCONCLUSIVE),
    ],
)
def test_another_provider_than_asked_is_anomalous(nodes, strict, expected):
    measured = change(
        MEASURED,
        provider="cuda",
        provider_name="CUDAExecutionProvider",
        footprint=change(FOOTPRINT, nodes_by_provider=nodes, shape_arithmetic={"Concat": 1}),
        comparison=change(COMPARISON, provider="cuda"),
    )
    found = judge(measurements(measured, strict=strict), budget())
    assert [f.verdict for f in found.findings if f.limit == "provider"] == ([expected] if expected else [])


def test_a_comparison_on_another_provider_is_anomalous():
    assert verdict(change(MEASURED, comparison=change(COMPARISON, provider="cuda"))).verdict == ANOMALOUS


@pytest.mark.parametrize(
    ("measured", "limits", "expected"),
    [
        (ANOMALIES["samples"], {**KEPT, "size_mb": 1.0, "p99_ms": 1.0}, ANOMALOUS),
        (MEASURED, {**KEPT, "size_mb": 1.0, "p99_ms": 1.0}, REGRESSION),
        (MEASURED, {**KEPT, "p99_ms": 1.0}, INCONCLUSIVE),
        (MEASURED, KEPT, ACCEPT),
    ],
)
def test_the_worst_finding_is_the_verdict(measured, limits, expected):
    assert verdict(measured, limits).verdict == expected


def test_the_order_of_limits_and_scopes_does_not_matter():
    limits = {**KEPT, "size_mb": 1.0, "p99_ms": 1.0, "p95_ms": 9.5}
    found = set()
    for order in itertools.islice(itertools.permutations(limits), 0, 200000, 20011):
        result = verdict(limits={name: limits[name] for name in order})
        found.add((result.verdict, frozenset(result.findings)))
    assert len(found) == 1
    fp32 = change(MEASURED, variant="fp32", size_mb=90.0)
    scopes = Scope({"size_mb": 25.0}), Scope({"size_mb": 25.0}, "fp32")
    one = judge(measurements(scopes=(MEASURED, fp32)), Budget(scopes))
    other = judge(measurements(scopes=(fp32, MEASURED)), Budget(scopes[::-1]))
    assert one.verdict == other.verdict == REGRESSION
    assert set(one.findings) == set(other.findings)


def test_scopes_that_differ_in_what_a_limit_does_not_depend_on_give_one_finding():
    wide = change(MEASURED, batch=8, latency=change(LATENCY, batch=8))
    scopes = (Scope(KEPT), Scope(KEPT, batch=8))
    found = judge(measurements(scopes=(MEASURED, wide)), Budget(scopes, machines=("any",)))
    counts = {limit: sum(finding.limit == limit for finding in found.findings) for limit in KEPT}
    assert counts == {
        "p50_ms": 2, "p95_ms": 2, "max_slowdown": 2, "peak_memory_mb": 2, "load_ms": 1, "size_mb": 1,
        "max_metric_drop": 1, "min_metric": 1, "max_metric": 1, "max_parity_error": 1,
    }  # fmt: skip


MANY = [0, 0.001, 0.004, 0.0095, 0.01, 0.015, 0.02, 0.05, 0.2, 0.5, 0.86, 0.9, 0.95, 1, 5, 7, 8.5, 9.5, 10, 22, 50, 130]


@pytest.mark.parametrize("limit", KEPT)
@pytest.mark.parametrize(
    "measured",
    [
        MEASURED,
        with_ratio(1.05, 1.04, 1.06),
        with_ratio(1.05, 1.01, 1.09, 0.03),
        with_pair(drop=0.015, low=-0.002, high=0.03, p_value=0.1),
        with_pair(drop=0.05, low=0.03, high=0.07, p_value=1e-6),
        with_pair(drop=0.008, low=0.002, high=0.014, p_value=0.01),
    ],
)
def test_a_larger_limit_never_makes_the_verdict_worse(limit, measured):
    severities = [SEVERITY.index(verdict(measured, {limit: allowed}).verdict) for allowed in MANY]
    if limit == "min_metric":
        severities.reverse()
    assert severities == sorted(severities, reverse=True)


def floats(value, path=()):
    """The ways to every number with a fraction."""
    if isinstance(value, float):
        yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from floats(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from floats(item, (*path, i))


PLAIN = artifacts.to_dict(measurements())
WAYS = list(floats(PLAIN["scopes"][0]))


@pytest.mark.parametrize("way", WAYS, ids=lambda way: ".".join(map(str, way)))
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_no_finite_number_is_anomalous_wherever_it_is(way, broken):
    data = json.loads(json.dumps(PLAIN))
    place = data["scopes"][0]
    for step in way[:-1]:
        place = place[step]
    place[way[-1]] = broken
    found = judge(artifacts.from_dict(Measurements, data), budget())
    assert found.verdict == ANOMALOUS
    first = next(finding for finding in found.findings if finding.limit == "finite")
    assert str(broken) in first.reason


@pytest.mark.parametrize("limit", KEPT)
def test_no_limit_accepts_a_nan(limit):
    nan = math.nan
    measured = change(
        MEASURED,
        size_mb=nan,
        latency=change(LATENCY, percentiles_ms={"p50": nan, "p95": nan}),
        footprint=change(FOOTPRINT, load_ms=nan, peak_memory_mb=nan),
        comparison=with_ratio(nan, nan, nan).comparison,
        quality=change(QUALITY, value=nan, paired=change(PAIRED, drop=nan)),
        parity=Parity(nan, nan),
    )
    found = verdict(measured, {limit: KEPT[limit]})
    assert {f.verdict for f in found.findings} == {ANOMALOUS}


def test_measurements_survive_json():
    data = json.loads(json.dumps(artifacts.to_dict(measurements())))
    assert artifacts.from_dict(Measurements, data) == measurements()


def test_int8_that_could_overflow_is_an_anomaly_unless_the_budget_allows_it():
    clipping = change(MEASURED, overflow=Overflow(3, 1000, 7, ("a",), (), 1))
    verdict = judge(measurements(clipping), budget())
    found = next(finding for finding in verdict.findings if finding.limit == "overflow")
    assert (verdict.verdict, found.verdict, found.variant) == (ANOMALOUS, ANOMALOUS, "int8")
    assert found.reason.startswith("7 of 1,000 pairs of int8 weights can overflow, in 1 layer: it answers otherwise")
    allowed = judge(measurements(clipping), budget(overflow=ALLOW))
    found = next(finding for finding in allowed.findings if finding.limit == "overflow")
    assert (allowed.verdict, found.verdict) == (ACCEPT, ACCEPT)
    assert found.reason.endswith("which the budget allows")


def test_int8_that_cannot_overflow_is_no_trouble():
    safe = judge(measurements(change(MEASURED, overflow=Overflow(3, 1000))), budget())
    assert safe.verdict == ACCEPT
    assert not [finding for finding in safe.findings if finding.limit == "overflow"]


def test_the_kinds_of_processor_are_passed_on():
    kinds = ("x86_64 AVX512-VNNI", "x86_64 AVX2 without VNNI")
    assert judge(measurements(processors=kinds), budget()).processors == kinds
