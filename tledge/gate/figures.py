"""What a verdict measured, as the formats and the history name it: by variant, never by the bundle's version."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tledge.artifacts import BenchResult, Comparison, Latency, Verdict


def bench(verdict: Verdict) -> BenchResult | None:
    """The verdict's benchmark, whose comparisons name their candidate by the variant alone.

    A comparison of two bundles has the version in its candidate's name, which would make a new line of every commit.
    """
    if verdict.bench is None:
        return None
    of_bundle = f" of {verdict.name} {verdict.version}"
    named = (dataclasses.replace(c, candidate=c.candidate.removesuffix(of_bundle)) for c in verdict.bench.comparisons)
    return dataclasses.replace(verdict.bench, comparisons=tuple(named))


def sizes(verdict: Verdict) -> Mapping[str, float]:
    """The sizes in MB, by variant, that the budget asked for; a footprint need not have been taken for them."""
    return {
        each.variant: each.measured
        for each in verdict.findings
        if each.limit == "size_mb" and each.variant and each.measured is not None
    }


def only_compared(result: BenchResult) -> tuple[Comparison, ...]:
    """The comparisons at settings that have no latencies of their own."""
    timed = {place(row) for row in result.latencies}
    return tuple(each for each in result.comparisons if place(each) not in timed)


def place(at: Latency | Comparison) -> tuple[str, int, int | None, int]:
    """Candidate, batch, length and threads."""
    return at.candidate, at.batch, at.sequence, at.threads
