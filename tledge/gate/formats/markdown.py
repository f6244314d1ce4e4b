"""Markdown for a comment on a pull request: the verdict first, then a table of the findings."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tledge.artifacts import Finding, Verdict
from tledge.gate import formats

_ROWS = 40
_LONGEST = 300
_SPECIAL = re.compile(r"([\\`*_\[\]|~])")
_NOT_IN_MARKER = re.compile(r"""[<>"\\\s]""")


def render(verdict: Verdict) -> str:
    """The comment; its last line is the hidden `<!-- tledge gate NAME -->`, by which a workflow finds its own again."""
    rows = formats.findings(verdict)
    header = ("limit", "allowed", "measured", "verdict", "reason")
    blocks = [
        f"## {verdict.verdict}: {_escape(formats.subject(verdict))}",
        f"{formats.summary(verdict)}.",
        _table(header, [_row(finding) for finding in rows[:_ROWS]]),
        f"{len(rows) - _ROWS} more findings are not shown; the JSON file has them all." if len(rows) > _ROWS else "",
        _machine(verdict),
        _escape(formats.seen_on(verdict)),
        marker(verdict.name),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def marker(name: str) -> str:
    """The hidden comment of a bundle's name."""
    words = _NOT_IN_MARKER.sub(" ", f"tledge gate {formats.printable(name)}").split()
    return f"<!-- {' '.join(words)} -->"


def _row(finding: Finding) -> tuple[str, ...]:
    return (
        _escape(formats.title(finding)),
        formats.allowed(finding),
        formats.measured(finding),
        finding.verdict,
        _escape(finding.reason),
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _machine(verdict: Verdict) -> str:
    if verdict.bench is None:
        return "The machine is not known: nothing was measured."
    return f"Measured on {_escape(formats.ran_on(verdict.bench.machine))}."


def _escape(text: str) -> str:
    """The text on one line, cut when very long, and as it is: no table cell, markup or HTML comes of it."""
    line = " ".join(formats.printable(text).split())
    cut = line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
    return _SPECIAL.sub(r"\\\1", cut).replace("&", "&amp;").replace("<", "&lt;")
