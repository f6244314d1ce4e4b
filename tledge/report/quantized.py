"""What schemes with a choice of settings tried, as tables shared by Markdown and HTML."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from tledge.report import format as fmt
from tledge.report.facts import Candidate, Facts

_SETTINGS = {"types": "types", "method": "ranges by", "keep_float": "kept in float"}
"""How settings are called; `n_worst` is told beside `keep_float`, and others are called as they are."""
_TYPES = {"u8s8": "U8S8", "u8u8": "U8U8", "s8s8": "S8S8"}


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate: a cell for each setting, then the metric, the speed with its interval, and the reason."""

    settings: tuple[str, ...]
    metric: str
    speed: str
    interval: str
    reason: str
    picked: bool


@dataclass(frozen=True, slots=True)
class Group:
    """The candidates of one scheme; `settings` names their columns."""

    scheme: str
    settings: tuple[str, ...]
    rows: tuple[Row, ...]


def groups(facts: Facts) -> tuple[Group, ...]:
    """The candidates by scheme, in the order in which they were tried."""
    return tuple(
        _group(facts, scheme, list(found)) for scheme, found in itertools.groupby(facts.candidates, lambda c: c.scheme)
    )


def _group(facts: Facts, scheme: str, candidates: list[Candidate]) -> Group:
    keys = [key for key in dict.fromkeys(k for each in candidates for k in each.settings) if key != "n_worst"]
    return Group(
        scheme,
        tuple(_SETTINGS.get(key, key.replace("_", " ")) for key in keys),
        tuple(_row(facts, each, keys) for each in candidates),
    )


def _row(facts: Facts, candidate: Candidate, keys: list[str]) -> Row:
    ratio = candidate.ratio
    value = candidate.metrics.get(facts.metric)
    return Row(
        tuple(_setting(candidate, key) for key in keys),
        "–" if value is None else fmt.score(facts.metric, value),
        fmt.times(ratio) if ratio else "not timed",
        fmt.times_interval(ratio) if ratio else "",
        candidate.reason,
        candidate.picked,
    )


def _setting(candidate: Candidate, key: str) -> str:
    value = str(candidate.settings.get(key, "–"))
    if value == "worst" and "n_worst" in candidate.settings:
        return f"worst {candidate.settings['n_worst']}"
    return _TYPES.get(value, value)
