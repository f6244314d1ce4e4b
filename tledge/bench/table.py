"""A benchmark as rows of text for a terminal: the room's only place that formats numbers."""

from __future__ import annotations

from tledge.artifacts import BenchResult, Footprint, Latency, LatencyRatio
from tledge.runtime.session import CPU

NONE = "-"


def rows(result: BenchResult) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The header and one row for each candidate and setting; the median has its 95 % interval beside it.

    A percentile that no row has is left out; where some lack it, their cells say how many samples it needs. The length
    is left out where no row has one; for a language model it is called `after`: so many tokens before the timed one.
    """
    with_length = any(row.sequence is not None for row in result.latencies)
    length = "after" if result.decoding else "length"
    names = sorted({name for row in result.latencies for name in row.percentiles_ms}, key=_percent)
    references = {row.against.reference for row in result.latencies if row.against}
    against = f"ratio to {references.pop()}" if len(references) == 1 else "ratio to reference"
    header = (
        *("candidate", "batch", *((length,) if with_length else ()), "threads", "samples"),
        *(f"{name} ms" for name in names),
        against,
    )
    return header, [_row(row, names, with_length) for row in result.latencies]


def lines(result: BenchResult) -> list[str]:
    """One line for each footprint: size, load, first run, memory and where the nodes run."""
    return [_line(footprint) for footprint in result.footprints]


def milliseconds(value: float) -> str:
    """A latency with about three digits: `0.123`, `4.56`, `78.9`, `1234`."""
    for below, digits in ((1, 3), (10, 2), (100, 1)):
        if round(value, digits) < below:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def ratio(value: LatencyRatio | None) -> str:
    """A ratio with its interval, `0.35 (0.34 to 0.36)`; a dash for none."""
    return NONE if value is None else f"{value.ratio:.2f} ({value.low:.2f} to {value.high:.2f})"


def megabytes(value: float) -> str:
    """A size in MB with one decimal, or two below 1 MB."""
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _row(row: Latency, names: list[str], with_length: bool) -> tuple[str, ...]:
    cells = (
        milliseconds(row.percentiles_ms[name]) + (_interval(row) if name == "p50" else "")
        if name in row.percentiles_ms
        else f"needs {row.missing[name]}"
        if name in row.missing
        else NONE
        for name in names
    )
    length = (NONE if row.sequence is None else str(row.sequence),) if with_length else ()
    return (
        *(row.candidate, str(row.batch), *length, str(row.threads), str(row.samples)),
        *cells,
        ratio(row.against),
    )


def _interval(row: Latency) -> str:
    if row.median_low_ms is None or row.median_high_ms is None:
        return ""
    return f" ({milliseconds(row.median_low_ms)} to {milliseconds(row.median_high_ms)})"


def _line(footprint: Footprint) -> str:
    shares, shapes = footprint.time_share_by_provider, sum(footprint.shape_arithmetic.values())
    nodes = ", ".join(
        f"{count} nodes on {provider.removesuffix('ExecutionProvider')}"
        + (f" ({100 * shares[provider]:.0f} % of the time)" if provider in shares else "")
        + (f" ({shapes} of them shape arithmetic)" if shapes and provider == CPU else "")
        for provider, count in footprint.nodes_by_provider.items()
    )
    pool = "" if footprint.threads is None else f" of {footprint.threads}"
    busy = "" if footprint.busy_cores is None else f", {footprint.busy_cores:.1f}{pool} threads busy"
    return (
        f"{footprint.candidate}: {megabytes(footprint.size_mb)} MB, "
        f"loads in {milliseconds(footprint.load_ms)} ms, "
        f"first run {milliseconds(footprint.first_run_ms)} ms, "
        f"peak memory {megabytes(footprint.peak_memory_mb)} MB "
        f"({megabytes(footprint.base_memory_mb)} before loading), {nodes or 'placement of nodes unknown'}{busy}"
    )


def _percent(name: str) -> float:
    return float(name.removeprefix("p"))
