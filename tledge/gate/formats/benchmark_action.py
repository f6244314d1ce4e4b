"""The `customSmallerIsBetter` JSON of github-action-benchmark: a list of figures under names that stay the same."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import MappingProxyType

from tledge.artifacts import BenchResult, Verdict
from tledge.gate import figures, formats

Entry = dict[str, str | float]
_NO_SIZES: Mapping[str, float] = MappingProxyType({})


def render(verdict: Verdict) -> str:
    """The figures that the verdict rests on, as `render_bench` gives them; an empty list where none were measured."""
    bench = figures.bench(verdict)
    return render_bench(bench, name=verdict.name, sizes=figures.sizes(verdict)) if bench else "[]\n"


def render_bench(result: BenchResult, *, name: str = "", sizes: Mapping[str, float] = _NO_SIZES) -> str:
    """Percentiles, end-to-end percentiles, load time, size and peak memory of every candidate.

    A candidate that was only compared has the median of the comparison.

    A name is made of the bundle, the candidate and the setting alone, so that it is the same tomorrow. Throughput is
    left out, since more of it is better, and so is what is not a finite number.

    Args:
        result: What was measured.
        name: The bundle's name, by default the result's own.
        sizes: Sizes in MB of candidates whose footprint was not taken.
    """
    bundle = name or result.name
    entries = [*_latencies(result), *_end_to_end(result), *_footprints(result, sizes)]
    told = "\n".join(f"{key}: {value}" for key, value in formats.machine(result.machine).items())
    for entry in entries:
        entry["name"] = formats.printable(f"{bundle} {entry['name']}".strip())
        entry["extra"] = formats.printable(f"{entry.get('extra', '')}\n{told}".strip())
    finite = [entry for entry in entries if math.isfinite(float(entry["value"]))]
    return json.dumps(finite, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _latencies(result: BenchResult) -> list[Entry]:
    entries: list[Entry] = []
    for row in result.latencies:
        where = formats.setting(row, result.provider)
        for percentile, value in row.percentiles_ms.items():
            entry: Entry = {"name": f"{row.candidate} {percentile} ({where})", "unit": "ms", "value": value}
            if percentile == "p50" and row.median_low_ms is not None and row.median_high_ms is not None:
                half = max(value - row.median_low_ms, row.median_high_ms - value)
                entry["range"] = f"± {half:.3g}"
            entry["extra"] = f"samples: {row.samples}"
            entries.append(entry)
    for each in figures.only_compared(result):
        name = f"{each.candidate} p50 ({formats.setting(each)})"
        entries.append({"name": name, "unit": "ms", "value": each.candidate_ms})
    return entries


def _end_to_end(result: BenchResult) -> list[Entry]:
    return [
        {
            "name": f"{row.candidate} end to end {percentile} ({formats.threads(row.threads)}, {result.provider})",
            "unit": "ms",
            "value": value,
            "extra": f"samples: {row.samples}",
        }
        for row in result.end_to_end
        for percentile, value in row.percentiles_ms.items()
    ]


def _footprints(result: BenchResult, sizes: Mapping[str, float]) -> list[Entry]:
    taken: list[Entry] = [
        {"name": f"{each.candidate} {what}", "unit": unit, "value": value}
        for each in result.footprints
        for what, unit, value in (
            ("load", "ms", each.load_ms),
            ("size", "MB", each.size_mb),
            ("peak memory", "MB", each.peak_memory_mb),
        )
    ]
    others = sizes.keys() - {each.candidate for each in result.footprints}
    taken += [{"name": f"{name} size", "unit": "MB", "value": sizes[name]} for name in sorted(others)]
    return taken
