"""Bencher Metric Format: a benchmark's name, its measures, and for each a value with its bounds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import MappingProxyType

from tledge.artifacts import BenchResult, Latency, Verdict
from tledge.gate import figures, formats

Metric = dict[str, float]
_NS_PER_MS = 1e6
_LONGEST_NAME = 1024
_NO_SIZES: Mapping[str, float] = MappingProxyType({})


def render(verdict: Verdict) -> str:
    """The figures that the verdict rests on, as `render_bench` gives them; an empty object where none were measured."""
    bench = figures.bench(verdict)
    return render_bench(bench, name=verdict.name, sizes=figures.sizes(verdict)) if bench else "{}\n"


def render_bench(result: BenchResult, *, name: str = "", sizes: Mapping[str, float] = _NO_SIZES) -> str:
    """Every candidate at every setting is a benchmark, and its footprint one more.

    `latency` is the median in nanoseconds with its 95 % interval and `throughput` the rows a second, which are
    Bencher's own measures and their units; all other measures carry their unit in the name (`p95_ms`, `size_mb`). What
    is not a finite number is left out.

    Args:
        result: What was measured.
        name: The bundle's name, by default the result's own.
        sizes: Sizes in MB of candidates whose footprint was not taken.
    """
    bundle = name or result.name
    found: dict[str, dict[str, Metric]] = {}
    for where, measure, metric in _metrics(result, sizes):
        kept = {key: value for key, value in metric.items() if math.isfinite(value)}
        if "value" in kept:
            benchmark = formats.printable(f"{bundle} {where}".strip())[:_LONGEST_NAME]
            found.setdefault(benchmark, {})[measure] = kept
    return json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _metrics(result: BenchResult, sizes: Mapping[str, float]) -> list[tuple[str, str, Metric]]:
    """Benchmark, measure and metric of each figure."""
    found: list[tuple[str, str, Metric]] = []
    for row in result.latencies:
        where = f"{row.candidate} ({formats.setting(row, result.provider)})"
        upper = {name: value for name, value in row.percentiles_ms.items() if name != "p50"}
        if "p50" in row.percentiles_ms:
            found.append((where, "latency", _median(row)))
        found += [(where, f"{name}_ms", {"value": value}) for name, value in upper.items()]
    for compared in figures.only_compared(result):
        median = {"value": compared.candidate_ms * _NS_PER_MS}
        found.append((f"{compared.candidate} ({formats.setting(compared)})", "latency", median))
    for load in result.throughput:
        bounds = {"value": load.rows_per_second, "lower_value": load.low, "upper_value": load.high}
        found.append((f"{load.candidate} ({formats.setting(load, result.provider)})", "throughput", bounds))
    for whole in result.end_to_end:
        where = f"{whole.candidate} end to end ({formats.threads(whole.threads)}, {result.provider})"
        found += [(where, f"{name}_ms", {"value": value}) for name, value in whole.percentiles_ms.items()]
    for each in result.footprints:
        costs = {"load_ms": each.load_ms, "size_mb": each.size_mb, "peak_memory_mb": each.peak_memory_mb}
        found += [(each.candidate, measure, {"value": value}) for measure, value in costs.items()]
    others = sizes.keys() - {each.candidate for each in result.footprints}
    found += [(name, "size_mb", {"value": sizes[name]}) for name in sorted(others)]
    return found


def _median(row: Latency) -> Metric:
    metric = {"value": row.percentiles_ms["p50"] * _NS_PER_MS}
    if row.median_low_ms is not None and row.median_high_ms is not None:
        metric |= {"lower_value": row.median_low_ms * _NS_PER_MS, "upper_value": row.median_high_ms * _NS_PER_MS}
    return metric
