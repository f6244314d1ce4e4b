"""The tables of a benchmark beside its latencies, as text: the same in a terminal, in Markdown and in HTML."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tledge.artifacts import (
    BenchResult,
    Comparison,
    EndToEnd,
    Footprint,
    Generation,
    LatencyRatio,
    ServerLoad,
    Throughput,
)
from tledge.report import format as fmt
from tledge.report import language


@dataclass(frozen=True, slots=True)
class Section:
    """One table; `words` names the columns that are not figures, beside the first, and `notes` are sentences below it.

    `long` tells that it is for those who look closer, and may be folded; `leads` that it stands where latencies would,
    in blocks by setting where there is room.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    long: bool = False
    leads: bool = False

    @property
    def blocks(self) -> tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]:
        """The rows by setting, which is the second column and left out of them."""
        return tuple(
            (setting, tuple((first, *rest) for first, _, *rest in rows))
            for setting, rows in itertools.groupby(self.rows, key=lambda row: row[1])
        )


def sections(result: BenchResult) -> tuple[Section, ...]:
    """The tables for what was measured beside latencies and footprints; none for what was not."""
    found = (
        _comparisons(result.comparisons, decoding=result.decoding),
        _generations(result.generations),
        _end_to_end(result.end_to_end),
        _throughput(result.throughput, decoding=result.decoding),
        _server(result.server, decoding=result.decoding),
        _operators(result.footprints),
    )
    return tuple(section for section in found if section.rows)


def percentiles(rows: Iterable[EndToEnd | ServerLoad]) -> tuple[str, ...]:
    """The names of the percentiles that any row has, from low to high."""
    return _names(row.percentiles_ms for row in rows)


def percent(name: str) -> float:
    """The number in a percentile's name: 99.9 in `p99.9`."""
    return float(name.removeprefix("p"))


def _comparisons(comparisons: Sequence[Comparison], *, decoding: bool) -> Section:
    rows = [
        (
            each.candidate,
            each.reference,
            f"{fmt.setting(each.batch, each.sequence, each.threads, decoding=decoding)}, {each.provider}",
            each.answer,
            _ratio(each.ratio),
            _ratio(each.noise),
            f"{100 * each.within:g} %",
            fmt.milliseconds(each.candidate_ms),
            fmt.milliseconds(each.reference_ms),
        )
        for each in comparisons
    ]
    header = ("candidate", "against", "setting", "answer", "ratio of times", "host's own noise", "asked within")
    return Section(
        "Comparison",
        (*header, "median, ms", "against, ms"),
        tuple(rows),
        ("against", "setting", "answer"),
        tuple(
            f"{each.candidate} against {each.reference}: {each.reason}"
            f"{' (each in a process of its own)' if each.isolated else ''}"
            for each in comparisons
            if each.reason
        ),
    )


def _names(rows: Iterable[Mapping[str, float]]) -> tuple[str, ...]:
    return tuple(sorted({name for row in rows for name in row}, key=percent))


def _generations(measured: Sequence[Generation]) -> Section:
    """Tokens of language models, with the percentiles that there are for the first token."""
    names = _names(row.first_token_ms for row in measured)
    references = {row.against.reference for row in measured if row.against}
    reference = fmt.reference(references.pop()) if len(references) == 1 else "the reference"
    rows = [
        (
            each.candidate,
            language.setting(each),
            f"{fmt.quantity(each.tokens_per_second)} ({fmt.quantity(each.low)} to {fmt.quantity(each.high)})",
            "reference" if each.against is None else fmt.speed(each.against),
            _times(each.first_token_ms, names),
            _times(each.token_ms, names),
            fmt.count(each.samples),
        )
        for each in measured
    ]
    unit, against = f"ms ({' / '.join(names)})" if names else "ms", f"against {reference}"
    return Section(
        "Generation, one token after another",
        ("candidate", "setting", "tokens/s", against, f"first, {unit}", f"further, {unit}", "runs"),
        tuple(rows),
        ("setting", against),
        (
            "First and further are the times to the first token and of each one after it.",
            *_needed([(each.missing, each.samples) for each in measured], names),
        ),
        leads=True,
    )


def _times(found: Mapping[str, float], names: Sequence[str]) -> str:
    """Percentiles beside each other, `14.2 / 14.9`, and a dash for one that there are too few samples for."""
    return " / ".join(fmt.milliseconds(found[name]) if name in found else "–" for name in names) or "–"


def _end_to_end(measured: Sequence[EndToEnd]) -> Section:
    names = percentiles(measured)
    rows = [
        (
            each.candidate,
            str(each.threads),
            fmt.milliseconds(each.preprocess_ms),
            fmt.milliseconds(each.run_ms),
            fmt.milliseconds(each.postprocess_ms),
            *_percentile_cells(each, names),
            fmt.count(each.samples),
        )
        for each in measured
    ]
    header = ("candidate", "threads", "preprocess, ms", "run, ms", "postprocess, ms")
    whole = (f"whole {name}, ms" for name in names)
    return Section(
        "End to end, one raw value at a time", (*header, *whole, "samples"), tuple(rows), (), _missing(measured)
    )


def _throughput(measured: Sequence[Throughput], *, decoding: bool) -> Section:
    rows = [
        (
            each.candidate,
            fmt.setting(each.batch, each.sequence, each.threads, decoding=decoding),
            fmt.quantity(each.rows_per_second),
            f"{fmt.quantity(each.low)} to {fmt.quantity(each.high)}",
            fmt.count(each.runs),
        )
        for each in measured
    ]
    return Section(
        "Throughput",
        ("candidate", "setting", f"{'tokens' if decoding else 'rows'} a second", "95 % interval", "runs"),
        tuple(rows),
        ("setting",),
    )


def _server(loads: Sequence[ServerLoad], *, decoding: bool) -> Section:
    names = percentiles(loads)
    rows = [
        (
            each.candidate,
            fmt.setting(each.batch, each.sequence, each.threads, decoding=decoding),
            f"{each.rate:g}",
            fmt.quantity(each.achieved_rate),
            f"{100 * each.utilization:.0f} %",
            *_percentile_cells(each, names),
            f"{each.percentile} in {each.bound_ms:g} ms",
            f"{100 * each.within_bound:.2f} %",
            {True: "met", False: "missed", None: "open"}[each.met],
            fmt.count(each.requests),
        )
        for each in loads
    ]
    header = ("candidate", "setting", "asked, 1/s", "answered, 1/s", "busy", *(f"{name}, ms" for name in names))
    return Section(
        "Server, requests at random",
        (*header, "bound", "within it", "bound is", "requests"),
        tuple(rows),
        ("setting", "bound", "bound is"),
        _missing(loads),
    )


def _operators(footprints: Sequence[Footprint]) -> Section:
    rows = [
        (
            footprint.candidate,
            each.operator,
            each.provider.removesuffix("ExecutionProvider"),
            fmt.count(each.nodes),
            fmt.milliseconds(each.time_ms),
            fmt.share(each.share, 1),
        )
        for footprint in footprints
        for each in footprint.operators
    ]
    return Section(
        "Slowest operators",
        ("candidate", "operator", "provider", "nodes", "in one run, ms", "of all nodes' time"),
        tuple(rows),
        ("operator", "provider"),
        long=True,
    )


def _percentile_cells(row: EndToEnd | ServerLoad, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(_cell(row.percentiles_ms, row.missing, name) for name in names)


def _cell(found: Mapping[str, float], missing: Mapping[str, int], name: str) -> str:
    if name in found:
        return fmt.milliseconds(found[name])
    return f"needs {fmt.count(missing[name])} samples" if name in missing else fmt.NOT_MEASURED


def _missing(measured: Sequence[EndToEnd | ServerLoad]) -> tuple[str, ...]:
    return _needed(
        [(row.missing, row.samples if isinstance(row, EndToEnd) else row.requests) for row in measured],
        percentiles(measured),
    )


def _needed(measured: Sequence[tuple[Mapping[str, int], int]], shown: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each percentile that no row has; `measured` are missing ones and samples of each row."""
    needed = {name: count for missing, _ in measured for name, count in missing.items() if name not in shown}
    most = max((samples for _, samples in measured), default=0)
    return tuple(
        f"{name} needs {fmt.count(needed[name])} samples; there are {fmt.count(most)}."
        for name in sorted(needed, key=percent)
    )


def _ratio(value: LatencyRatio) -> str:
    return f"{value.ratio:.3f} ({value.low:.3f} to {value.high:.3f})"
