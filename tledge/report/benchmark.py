"""A benchmark's latencies as tables, shared by Markdown and HTML."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from tledge import processor
from tledge.artifacts import BenchResult, Footprint, Latency, Machine
from tledge.report import format as fmt
from tledge.report.sections import percent


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate at one setting; `bar` is its median's share, 0 to 1, of the slowest median of the setting."""

    candidate: str
    percentiles: tuple[str, ...]
    against: str
    samples: int
    bar: float


@dataclass(frozen=True, slots=True)
class Block:
    """One setting and its candidates."""

    setting: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Latencies by setting; `missing` tells, one sentence each, of percentiles that no row has."""

    percentiles: tuple[str, ...]
    reference: str
    blocks: tuple[Block, ...]
    missing: tuple[str, ...]


def table(result: BenchResult) -> Table:
    """The latencies of a benchmark, one block for each setting."""
    names = sorted({name for row in result.latencies for name in row.percentiles_ms}, key=percent)
    references = {row.against.reference for row in result.latencies if row.against}
    reference = references.pop() if len(references) == 1 else "the reference"
    blocks = []
    for key, group in itertools.groupby(result.latencies, key=lambda row: (row.batch, row.sequence, row.threads)):
        rows = list(group)
        slowest = max(row.percentiles_ms.get("p50", 0.0) for row in rows)
        setting = fmt.setting(*key, provider=result.provider, decoding=result.decoding)
        blocks.append(Block(setting, tuple(_row(row, names, slowest, reference) for row in rows)))
    return Table(tuple(names), reference, tuple(blocks), _missing(result, names))


def footprints(result: BenchResult) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The header and one row for each footprint; how many cores a run kept busy is there where it was measured."""
    busy = any(each.busy_cores is not None for each in result.footprints)
    header = ("candidate", "size", "load", "first run", "peak memory", "before loading")
    rows = [
        (*_footprint(each), *((_busy(each),) if busy else ()), _nodes(each) or "unknown") for each in result.footprints
    ]
    return (*header, *(("busy cores",) if busy else ()), "nodes"), rows


def machine_facts(machine: Machine) -> tuple[tuple[str, str], ...]:
    """What a reader needs to know of a machine, as names and values."""
    quota = f", quota of {machine.quota_cores:g}" if machine.quota_cores is not None else ""
    load = "" if machine.load_average is None else f"{machine.load_average:.2f}"
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    heat = "" if machine.temperature_c is None else f"{machine.temperature_c:.0f} °C at the hottest sensor"
    found = (
        ("processor", f"{machine.cpu or 'unknown'}, {processor.kind(machine.architecture, machine.cpu_flags)}"),
        ("instruction sets", ", ".join(machine.cpu_flags) or "unknown"),
        ("cores", f"{machine.cores}{quota}"),
        ("memory", f"{machine.memory_mb / 1000:,.1f} GB"),
        ("system", f"{machine.system}, Python {machine.python}"),
        ("onnxruntime", f"{machine.onnxruntime} ({', '.join(machine.providers)})"),
        ("onnxruntime build", machine.onnxruntime_build),
        ("frequency", _frequency(machine)),
        ("temperature", heat),
        ("load average", load),
        ("packages", packages),
        ("fingerprint", machine.fingerprint),
    )
    return tuple((name, value) for name, value in found if value)


def _footprint(footprint: Footprint) -> tuple[str, ...]:
    return (
        footprint.candidate,
        fmt.megabytes(footprint.size_mb),
        f"{fmt.milliseconds(footprint.load_ms)} ms",
        f"{fmt.milliseconds(footprint.first_run_ms)} ms",
        fmt.megabytes(footprint.peak_memory_mb),
        fmt.megabytes(footprint.base_memory_mb),
    )


def _busy(footprint: Footprint) -> str:
    if footprint.busy_cores is None:
        return fmt.NOT_MEASURED
    return f"{footprint.busy_cores:.1f}" + ("" if footprint.threads is None else f" of {footprint.threads}")


def _nodes(footprint: Footprint) -> str:
    shares, shapes = footprint.time_share_by_provider, sum(footprint.shape_arithmetic.values())
    return ", ".join(
        f"{count} on {provider.removesuffix('ExecutionProvider')}"
        + (f" ({fmt.share(shares[provider], 1)} of the time)" if provider in shares else "")
        + (f" ({shapes} of them shape arithmetic)" if shapes and provider.startswith("CPU") else "")
        for provider, count in footprint.nodes_by_provider.items()
    )


def _frequency(machine: Machine) -> str:
    now = "" if machine.frequency_mhz is None else f"{machine.frequency_mhz:,.0f} MHz"
    most = "" if machine.max_frequency_mhz is None else f"at most {machine.max_frequency_mhz:,.0f} MHz"
    rule = f"governor {machine.governor}" if machine.governor else ""
    return ", ".join(part for part in (now, most, rule) if part)


def _row(row: Latency, names: list[str], slowest: float, reference: str) -> Row:
    cells = (
        fmt.milliseconds(row.percentiles_ms[name]) + (_median_interval(row) if name == "p50" else "")
        if name in row.percentiles_ms
        else f"needs {fmt.count(row.missing[name])} samples"
        if name in row.missing
        else fmt.NOT_MEASURED
        for name in names
    )
    median = row.percentiles_ms.get("p50", 0.0)
    against = "not compared"
    if row.candidate == reference:
        against = "reference"
    elif row.against is not None:
        against = fmt.speed(row.against)
    return Row(row.candidate, tuple(cells), against, row.samples, median / slowest if slowest else 0.0)


def _median_interval(row: Latency) -> str:
    if row.median_low_ms is None or row.median_high_ms is None:
        return ""
    return f" ({fmt.milliseconds(row.median_low_ms)} to {fmt.milliseconds(row.median_high_ms)})"


def _missing(result: BenchResult, shown: list[str]) -> tuple[str, ...]:
    needed = {name: count for row in result.latencies for name, count in row.missing.items() if name not in shown}
    most = max((row.samples for row in result.latencies), default=0)
    return tuple(
        f"{name} needs {fmt.count(needed[name])} samples; there are {fmt.count(most)}."
        for name in sorted(needed, key=percent)
    )
