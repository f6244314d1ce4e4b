"""Verdicts of the same gate on several machines, side by side: a column for each machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tledge.artifacts import ACCEPT, Finding, OnMachine, SideBySide, Verdict
from tledge.gate import formats
from tledge.report.machines import NO_RESULT, NONE, failures, names
from tledge.report.sections import Section
from tledge.report.text import bullets, escape, table

_Key = tuple[str, str, str, int]


def side_by_side(machines: Sequence[OnMachine]) -> SideBySide:
    """The verdicts with the worst of them."""
    found = [each.verdict.verdict for each in machines if each.verdict]
    return SideBySide(tuple(machines), verdict=min(found, key=formats.rank, default=""))


def section(found: SideBySide) -> Section:
    """The table: each machine's verdict, then a row for each limit; its notes say why something is not accepted."""
    columns = [_findings(each.verdict) for each in found.machines]
    keys = dict.fromkeys(key for column in columns for key in column)
    empty = [NO_RESULT if each.error else NONE for each in found.machines]
    verdicts = [each.verdict.verdict if each.verdict else NO_RESULT for each in found.machines]
    rows = [
        (
            *key[:3],
            *(_cell(column[key]) if key in column else blank for column, blank in zip(columns, empty, strict=True)),
        )
        for key in keys
    ]
    called = names(found.machines)
    seen = formats.seen_on(*(each.verdict for each in found.machines if each.verdict))
    return Section(
        "The gate on several machines",
        ("limit", "of", "allowed", *called),
        (("verdict", "", "", *verdicts), *rows),
        ("of", *called),
        (*_reasons(found.machines), *failures(found.machines), *((seen,) if seen else ())),
    )


def summary(found: SideBySide) -> str:
    """How many machines have which verdict: `REGRESSION: 1 machine REGRESSION, 2 ACCEPT, 1 without a result`."""
    count = Counter(each.verdict.verdict for each in found.machines if each.verdict)
    parts = [f"{number} {word}" for word, number in sorted(count.items(), key=lambda item: formats.rank(item[0]))]
    if missing := len(found.machines) - sum(count.values()):
        parts.append(f"{missing} without a result")
    return f"{found.verdict or 'no verdict'}: of {len(found.machines)} machines {', '.join(parts)}"


def ran_on(machines: Sequence[OnMachine]) -> tuple[str, ...]:
    """A line for each machine on which something was measured."""
    return tuple(
        f"{each.device}: {formats.ran_on(each.verdict.bench.machine)}"
        for each in machines
        if each.verdict and each.verdict.bench
    )


def markdown(found: SideBySide, marker: str) -> str:
    """A comment for a pull request; `marker` is its hidden last line, by which a workflow finds its own again."""
    judged = next((formats.subject(each.verdict) for each in found.machines if each.verdict), "")
    shown = section(found)
    title, _, rest = summary(found).partition(": ")
    blocks = [
        f"## {escape(f'{title}: {judged}' if judged else title)}",
        f"{escape(rest)}.",
        table(tuple(map(escape, shown.header)), [tuple(map(escape, row)) for row in shown.rows]),
        bullets(map(escape, shown.notes)),
        bullets(map(escape, ran_on(found.machines))),
        marker,
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _findings(verdict: Verdict | None) -> dict[_Key, Finding]:
    """Findings by limit, what was measured and what is allowed; one that is there twice has a number."""
    found: dict[_Key, Finding] = {}
    seen: Counter[tuple[str, str, str]] = Counter()
    for finding in verdict.findings if verdict else ():
        place = (finding.limit, formats.where(finding), formats.allowed(finding))
        found[(*place, seen[place])] = finding
        seen[place] += 1
    return found


def _cell(finding: Finding) -> str:
    return ", ".join(part for part in (finding.verdict, formats.measured(finding)) if part)


def _reasons(machines: Sequence[OnMachine]) -> tuple[str, ...]:
    return tuple(
        f"{finding.verdict} on {name}: {formats.title(finding)}: {' '.join(finding.reason.split())}"
        for name, each in zip(names(machines), machines, strict=True)
        for finding in (formats.findings(each.verdict) if each.verdict else ())
        if finding.verdict != ACCEPT
    )
