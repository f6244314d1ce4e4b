"""A benchmark's latencies as tables, shared by Markdown and HTML."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from tledge.artifacts import BenchResult, Footprint, Latency, Machine
from tledge.report import format as fmt


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
    names = sorted({name for row in result.latencies for name in row.percentiles_ms}, key=_percent)
    references = {row.against.reference for row in result.latencies if row.against}
    reference = references.pop() if len(references) == 1 else "the reference"
    blocks = []
    for key, group in itertools.groupby(result.latencies, key=lambda row: (row.batch, row.sequence, row.threads)):
        rows = list(group)
        slowest = max(row.percentiles_ms.get("p50", 0.0) for row in rows)
        blocks.append(Block(fmt.setting(*key), tuple(_row(row, names, slowest, reference) for row in rows)))
    return Table(tuple(names), reference, tuple(blocks), _missing(result, names))


def footprint_cells(footprint: Footprint) -> tuple[str, ...]:
    """Candidate, size, load, first run, peak memory, memory before loading, and nodes by provider."""
    nodes = ", ".join(
        f"{count} on {provider.removesuffix('ExecutionProvider')}"
        for provider, count in footprint.nodes_by_provider.items()
    )
    return (
        footprint.candidate,
        fmt.megabytes(footprint.size_mb),
        f"{fmt.milliseconds(footprint.load_ms)} ms",
        f"{fmt.milliseconds(footprint.first_run_ms)} ms",
        fmt.megabytes(footprint.peak_memory_mb),
        fmt.megabytes(footprint.base_memory_mb),
        nodes or "unknown",
    )


FOOTPRINT_HEADER = ("candidate", "size", "load", "first run", "peak memory", "before loading", "nodes")


def machine_facts(machine: Machine) -> tuple[tuple[str, str], ...]:
    """What a reader needs to know of a machine, as names and values."""
    quota = f", quota of {machine.quota_cores:g}" if machine.quota_cores is not None else ""
    load = [("load average", f"{machine.load_average:.2f}")] if machine.load_average is not None else []
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    return (
        ("processor", f"{machine.cpu or 'unknown'} ({machine.architecture})"),
        ("instruction sets", ", ".join(machine.cpu_flags) or "unknown"),
        ("cores", f"{machine.cores}{quota}"),
        ("memory", f"{machine.memory_mb / 1000:,.1f} GB"),
        ("system", f"{machine.system}, Python {machine.python}"),
        ("onnxruntime", f"{machine.onnxruntime} ({', '.join(machine.providers)})"),
        *load,
        *([("packages", packages)] if packages else []),
    )


def _row(row: Latency, names: list[str], slowest: float, reference: str) -> Row:
    cells = (
        fmt.milliseconds(row.percentiles_ms[name])
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


def _missing(result: BenchResult, shown: list[str]) -> tuple[str, ...]:
    needed = {name: count for row in result.latencies for name, count in row.missing.items() if name not in shown}
    most = max((row.samples for row in result.latencies), default=0)
    return tuple(
        f"{name} needs {fmt.count(needed[name])} samples; there are {fmt.count(most)}."
        for name in sorted(needed, key=_percent)
    )


def _percent(name: str) -> float:
    return float(name.removeprefix("p"))
