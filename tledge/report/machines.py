"""Benchmarks of the same graphs on several machines, side by side: a column for each machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tledge import processor
from tledge.artifacts import (
    BenchResult,
    Comparison,
    Fastest,
    Generation,
    Latency,
    LatencyRatio,
    Machine,
    OnMachine,
    SideBySide,
)
from tledge.report import format as fmt
from tledge.report import language
from tledge.report.benchmark import machine_facts
from tledge.report.sections import Section
from tledge.report.text import bullets, code, escape, table

NONE, NO_RESULT = "–", "no result"
_LONG_FACTS = ("packages", "onnxruntime build")


@dataclass(frozen=True, slots=True)
class _Cell:
    """One candidate at one setting on one machine.

    Of `value`, less is faster; `low` and `high` bound its 95 % interval, and are `None` where candidates do not race.
    """

    candidate: str
    setting: str
    text: str
    low: float | None = None
    high: float | None = None
    value: float = 0.0


def side_by_side(machines: Sequence[OnMachine]) -> SideBySide:
    """The benchmarks with the fastest candidates of each setting."""
    return SideBySide(tuple(machines), _fastest(machines))


def names(machines: Sequence[OnMachine]) -> tuple[str, ...]:
    """What tables call the machines: processor and kind, and where two are alike also how they were asked for."""
    found = [_name(machine_of(each)) for each in machines]
    alike = Counter(found)
    return tuple(
        each.device if not name else f"{name} ({each.device})" if alike[name] > 1 else name
        for name, each in zip(found, machines, strict=True)
    )


def machine_of(result: OnMachine) -> Machine | None:
    """The machine of a benchmark or a verdict, `None` where nothing was measured."""
    bench = result.bench or (result.verdict.bench if result.verdict else None)
    return None if bench is None else bench.machine


def section(found: SideBySide) -> Section:
    """The table: a row for each candidate and setting, a column for each machine, and what they say together."""
    columns = [{(c.candidate, c.setting): c.text for c in _cells(each.bench)} for each in found.machines]
    keys = dict.fromkeys(key for column in columns for key in column)
    empty = [NO_RESULT if each.error else NONE for each in found.machines]
    rows = tuple(
        (*key, *(column.get(key, blank) for column, blank in zip(columns, empty, strict=True))) for key in keys
    )
    called = names(found.machines)
    return Section(
        "Machines side by side",
        ("candidate", "setting", *called),
        rows,
        ("setting", *called),
        (*_what_cells_are(found.machines), *(each.sentence for each in found.fastest), *failures(found.machines)),
    )


def failures(machines: Sequence[OnMachine]) -> tuple[str, ...]:
    """A sentence for each machine that gave nothing."""
    return tuple(f"{each.device} gave no result: {each.error}" for each in machines if each.error)


def ran_on(machines: Sequence[OnMachine]) -> tuple[str, ...]:
    """A line for each machine with what a reader needs to know of it."""
    lines = []
    for each in machines:
        if (machine := machine_of(each)) is not None:
            facts = "; ".join(f"{k}: {value}" for k, value in machine_facts(machine) if k not in _LONG_FACTS)
            lines.append(f"{each.device}: {facts}")
    return tuple(lines)


def notes(machines: Sequence[OnMachine]) -> tuple[str, ...]:
    """The notes of the benchmarks, each with the machine that it is about."""
    return tuple(
        f"{name}: {note}"
        for name, each in zip(names(machines), machines, strict=True)
        for note in (each.bench.notes if each.bench else ())
    )


def markdown(found: SideBySide) -> str:
    """The table, its sentences, the notes and the machines as Markdown."""
    shown = section(found)
    rows = [(code(candidate), *map(escape, rest)) for candidate, *rest in shown.rows]
    blocks = [
        f"## {shown.title}",
        table(tuple(map(escape, shown.header)), rows) if rows else "Nothing was measured.",
        bullets(map(escape, (*shown.notes, *notes(found.machines)))),
        bullets(map(escape, ran_on(found.machines))),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _name(machine: Machine | None) -> str:
    return "" if machine is None else processor.short_name(machine.cpu, machine.architecture, machine.cpu_flags)


def _cells(bench: BenchResult | None) -> Iterator[_Cell]:
    """One for each candidate and setting of whatever was measured."""
    if bench is None:
        return
    for row in bench.latencies:
        at = fmt.setting(row.batch, row.sequence, row.threads, decoding=bench.decoding)
        if "p50" in row.percentiles_ms:
            yield _timed(row.candidate, at, f"{fmt.milliseconds(row.percentiles_ms['p50'])} ms", row.against)
        else:  # too few samples for a median are too few for a race
            needed = f"needs {fmt.count(row.missing['p50'])} samples" if "p50" in row.missing else NONE
            yield _Cell(row.candidate, at, needed)
    for each in bench.generations:
        speed = f"{fmt.quantity(each.tokens_per_second)} tokens/s"
        yield _timed(each.candidate, language.setting(each), speed, each.against)
    for compared in bench.comparisons:
        yield _compared(compared, decoding=bench.decoding)
    for flow in bench.throughput:
        at = fmt.setting(flow.batch, flow.sequence, flow.threads, decoding=bench.decoding)
        unit = "tokens/s" if bench.decoding else "rows/s"
        rate, low, high = map(fmt.quantity, (flow.rows_per_second, flow.low, flow.high))
        text = f"{rate} {unit} ({low} to {high})"
        yield _Cell(flow.candidate, at, text, -flow.high, -flow.low, -flow.rows_per_second)
    for load in bench.server:
        at = fmt.setting(load.batch, load.sequence, load.threads, decoding=bench.decoding)
        answer = {True: "met", False: "missed", None: "open"}[load.met]
        told = f"{load.percentile} in {load.bound_ms:g} ms {answer}, {100 * load.within_bound:.2f} % within"
        yield _Cell(load.candidate, f"{at}, {load.rate:g} requests/s", told)


def _timed(candidate: str, at: str, figure: str, ratio: LatencyRatio | None) -> _Cell:
    """A figure with the ratio to the reference, which is its own reference at exactly 1."""
    if ratio is None:
        return _Cell(candidate, at, figure, 1.0, 1.0, 1.0)
    return _Cell(candidate, at, f"{figure}, {_words(ratio)}", ratio.low, ratio.high, ratio.ratio)


def _compared(each: Comparison, *, decoding: bool) -> _Cell:
    """The answer of a comparison, which has weighed the host's noise already; it is no race of its own."""
    at = f"{fmt.setting(each.batch, each.sequence, each.threads, decoding=decoding)}, {each.provider}"
    return _Cell(f"{each.candidate} against {each.reference}", at, f"{each.answer}, {_words(each.ratio)}")


def _words(ratio: LatencyRatio) -> str:
    return f"{ratio.ratio:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def _what_cells_are(machines: Sequence[OnMachine]) -> tuple[str, ...]:
    """What the ratios are to, and of which bundles where they are not the same."""
    timed: list[tuple[str, str]] = []
    for name, each in zip(names(machines), machines, strict=True):
        rows: tuple[Latency | Generation, ...] = (*each.bench.latencies, *each.bench.generations) if each.bench else ()
        timed += [(name, against.reference) for against in (row.against for row in rows) if against]
    references = dict.fromkeys(reference for _, reference in timed)
    told = []
    if len(references) == 1:
        told.append(f"Beside each figure is the ratio of its time to that of {fmt.reference(next(iter(references)))}.")
    elif references:
        listed = "; ".join(f"{fmt.reference(each)} on {_list(_of(timed, each))}" for each in references)
        told.append(f"Beside each figure is the ratio of its time to that of {listed}.")
    bundles = dict.fromkeys(each.bench.name for each in machines if each.bench and each.bench.name)
    if len(bundles) > 1:
        told.append(f"These are different bundles: {_list(bundles)}.")
    return tuple(told)


def _of(timed: Iterable[tuple[str, str]], reference: str) -> list[str]:
    return list(dict.fromkeys(name for name, other in timed if other == reference))


def _fastest(machines: Sequence[OnMachine]) -> tuple[Fastest, ...]:
    """For each setting at which a machine measured at least two candidates."""
    by_setting: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, each in zip(names(machines), machines, strict=True):
        raced: dict[str, dict[str, tuple[float, float, float]]] = {}
        for cell in _cells(each.bench):
            if cell.low is not None and cell.high is not None:
                raced.setdefault(cell.setting, {})[cell.candidate] = (cell.value, cell.low, cell.high)
        for at, times in raced.items():
            if len(times) > 1:
                by_setting.setdefault(at, {})[name] = fastest_of(times)
    several = len(by_setting) > 1
    return tuple(
        Fastest(at, found, f"{at}: {sentence(found)}" if several else sentence(found))
        for at, found in by_setting.items()
    )


def fastest_of(times: Mapping[str, tuple[float, float, float]]) -> tuple[str, ...]:
    """The fastest, and those whose intervals reach into its own. Pure.

    Args:
        times: the time of each candidate in any unit, with the bounds of its 95 % interval.
    """
    best = min(times, key=lambda name: times[name][0])
    return (best, *(name for name, (_, low, _) in times.items() if name != best and low <= times[best][2]))


def sentence(fastest: Mapping[str, tuple[str, ...]]) -> str:
    """Whether the machines have the same fastest candidate, in a sentence. Pure.

    Args:
        fastest: the fastest candidates of each machine, several where they are not told apart.
    """
    by_candidates: dict[tuple[str, ...], list[str]] = {}
    for machine, candidates in fastest.items():
        by_candidates.setdefault(tuple(sorted(candidates)), []).append(machine)
    if len(by_candidates) == 1:
        [(candidates, machines)] = by_candidates.items()
        where = {1: machines[0], 2: "both machines"}.get(len(machines), f"all {len(machines)} machines")
        return f"{_race(candidates)} on {where}."
    told = "; ".join(f"{_race(candidates)} on {_list(machines)}" for candidates, machines in by_candidates.items())
    shared = set.intersection(*(set(candidates) for candidates in by_candidates))
    if shared:
        return f"{told}; so {_list(sorted(shared), 'or')} may be the fastest on all of them."
    return f"The fastest is not the same on every machine: {told}."


def _race(candidates: Sequence[str]) -> str:
    if len(candidates) == 1:
        return f"{candidates[0]} is the fastest"
    return f"{_list(candidates)} are not told apart as the fastest"


def _list(names: Iterable[str], word: str = "and") -> str:
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last
