"""GitHub's workflow commands, which become annotations of a run where they are printed in it."""

from __future__ import annotations

from tledge.artifacts import ACCEPT, INCONCLUSIVE, Finding, Verdict
from tledge.gate import formats

_MOST = 10
"""GitHub shows ten annotations of a kind for one step and drops the rest without a word."""


def render(verdict: Verdict) -> str:
    """One command a line: errors, then warnings, and for ACCEPT one notice.

    The tenth of a kind says how many more there are, where there are more than ten.
    """
    found = [finding for finding in formats.findings(verdict) if finding.verdict != ACCEPT]
    warnings = [finding for finding in found if finding.verdict == INCONCLUSIVE]
    errors = [finding for finding in found if finding.verdict != INCONCLUSIVE]
    lines = [*_commands("error", errors), *_commands("warning", warnings)]
    if verdict.verdict == ACCEPT:
        told = f"{formats.subject(verdict)}: {formats.summary(verdict)}"
        lines.append(_command("notice", "tledge gate: ACCEPT", told))
    return "".join(f"{line}\n" for line in lines)


def _commands(kind: str, findings: list[Finding]) -> list[str]:
    shown = findings if len(findings) <= _MOST else findings[: _MOST - 1]
    lines = [_command(kind, f"{each.verdict}: {formats.title(each)}", each.reason) for each in shown]
    if more := len(findings) - len(shown):
        lines.append(_command(kind, "tledge gate", f"{more} more findings are in the step's summary"))
    return lines


def _command(kind: str, title: str, message: str) -> str:
    return f"::{kind} title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    """A message as the runner reads it back: the percent sign and line breaks are written as codes."""
    return formats.printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """A property, in which a colon and a comma would end it."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
