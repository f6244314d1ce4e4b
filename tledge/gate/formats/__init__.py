"""A verdict in the forms that CI systems and dashboards read: one file each, found by its name.

Every format is a module with `render(verdict: Verdict) -> str`, the whole text with its last line break. The functions
here are the words that the formats share.
"""

from __future__ import annotations

import math
import re

from tledge import processor
from tledge.artifacts import (
    ACCEPT,
    ANOMALOUS,
    INCONCLUSIVE,
    REGRESSION,
    Comparison,
    Finding,
    Latency,
    Machine,
    Throughput,
    Verdict,
)

ORDER = (ANOMALOUS, REGRESSION, INCONCLUSIVE, ACCEPT)
"""The worst first."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


def findings(verdict: Verdict) -> tuple[Finding, ...]:
    """The findings, the worst first and else in their order; one of its own where the gate looked at nothing."""
    nothing = Finding("verdict", verdict.verdict, "no limit and no check was looked at")
    return tuple(sorted(verdict.findings, key=lambda each: rank(each.verdict))) or (nothing,)


def rank(verdict: str) -> int:
    """The place of a verdict among all, 0 for the worst; an unknown one comes last."""
    return ORDER.index(verdict) if verdict in ORDER else len(ORDER)


def summary(verdict: Verdict) -> str:
    """How many findings have which verdict: `1 REGRESSION, 3 ACCEPT`."""
    each = [finding.verdict for finding in findings(verdict)]
    return ", ".join(f"{each.count(name)} {name}" for name in sorted(set(each), key=rank))


def subject(verdict: Verdict) -> str:
    """What was judged: `reviews 0123456789ab against reviews ba9876543210`."""
    judged = " ".join(part for part in (verdict.name or "a bundle", verdict.version) if part)
    return f"{judged} against {verdict.against}" if verdict.against else judged


def title(finding: Finding) -> str:
    """The limit and what it was measured at: `p95_ms: int8, batch 1, length 32, 1 thread, cpu`."""
    place = where(finding)
    return f"{finding.limit}: {place}" if place else finding.limit


def where(finding: Finding) -> str:
    """What was measured and at which setting: `int8, batch 1, length 32, 1 thread, cpu`."""
    return ", ".join(part for part in (finding.variant, setting(finding)) if part)


def setting(of: Finding | Latency | Throughput | Comparison, provider: str = "") -> str:
    """A setting in words, as far as it is known: `batch 1, length 32, 1 thread, cpu`."""
    parts = (
        f"batch {of.batch}" if of.batch is not None else "",
        f"length {of.sequence}" if of.sequence is not None else "",
        threads(of.threads) if of.threads is not None else "",
        of.provider if isinstance(of, Finding | Comparison) else provider,
    )
    return ", ".join(part for part in parts if part)


def threads(count: int) -> str:
    """`1 thread`, `4 threads`."""
    return f"{count} {'thread' if count == 1 else 'threads'}"


def number(value: float | None, unit: str = "") -> str:
    """A number with about four digits and its unit: `2.413 ms`, `1,234 MB`, `1.2e-06`; empty for `None`."""
    if value is None:
        return ""
    text = f"{value:,.0f}" if math.isfinite(value) and abs(value) >= 1000 else f"{value:.4g}"
    return f"{text} {unit}".rstrip()


def allowed(finding: Finding) -> str:
    """The limit: `2.8 ms`, `5 %`; empty where there is none."""
    return number(*_in_words(finding, finding.allowed))


def measured(finding: Finding) -> str:
    """What was measured with its interval: `2.413 ms (2.38 to 2.45)`; empty where nothing was."""
    text = number(*_in_words(finding, finding.measured))
    if not text or finding.low is None or finding.high is None:
        return text
    low, high = (number(_in_words(finding, bound)[0]) for bound in (finding.low, finding.high))
    return f"{text} ({low} to {high})"


def _in_words(finding: Finding, value: float | None) -> tuple[float | None, str]:
    """A value and its unit as they are read best: a slowdown is a share and read in percent."""
    if finding.limit == "max_slowdown" and not finding.unit:
        return (None if value is None else value * 100), "%"
    return value, finding.unit


def machine(of: Machine) -> dict[str, str]:
    """What a reader needs to know of a machine, by name."""
    quota = f", quota of {of.quota_cores:g}" if of.quota_cores is not None else ""
    return {
        "machine": f"{of.cpu or 'unknown processor'}, {processor.kind(of.architecture, of.cpu_flags)}",
        "cores": f"{of.cores}{quota}",
        "onnxruntime": of.onnxruntime,
        "fingerprint": of.fingerprint or "none",
    }


def seen_on(*verdicts: Verdict) -> str:
    """On which kinds of processor the evidence was gathered; empty where that is not known."""
    kinds = dict.fromkeys(kind for verdict in verdicts for kind in verdict.processors)
    return f"Evidence is from {' and '.join(kinds)}; other kinds of processor are unseen." if kinds else ""


def ran_on(of: Machine) -> str:
    """A machine in one line: `a cpu, aarch64 dot product, 4 cores, onnxruntime 1.31.0, fingerprint 0123456789ab`."""
    facts = machine(of)
    told = f"{facts['machine']}, {facts['cores']} cores, onnxruntime {facts['onnxruntime']}"
    return f"{told}, fingerprint {facts['fingerprint']}"


def printable(text: str) -> str:
    """The text without the control characters and half characters that neither XML nor a terminal can take."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
