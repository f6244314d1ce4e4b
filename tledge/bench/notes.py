"""What a reader should know before trusting the figures of a benchmark."""

from __future__ import annotations

from collections.abc import Iterable

from tledge.artifacts import Latency, Machine
from tledge.bench.latency import key, setting

BUSY = 0.5
"""Load average per core, our own process left out, above which other work is likely to disturb."""


def notes(machine: Machine, latencies: Iterable[Latency], percentile: float) -> tuple[str, ...]:
    """One sentence for each thing that makes figures less sure; empty when there is none.

    Args:
        machine: As it was before the benchmark began.
        latencies: The measured rows.
        percentile: The percentile that was asked for.
    """
    rows = list(latencies)
    found = [_threads(machine, threads) for threads in sorted({row.threads for row in rows})]
    found.append(_load(machine))
    found.extend(_missing(rows, percentile))
    return tuple(note for note in found if note)


def _threads(machine: Machine, threads: int) -> str:
    if machine.quota_cores is not None and threads > machine.quota_cores:
        limit = f"the CPU quota of {machine.quota_cores:g} cores"
    elif threads > machine.cores:
        limit = f"the {machine.cores} cores available"
    else:
        return ""
    return f"{threads} threads are more than {limit}: they wait for each other, so use fewer"


def _load(machine: Machine) -> str:
    if machine.load_average is None or (machine.load_average - 1) / machine.cores <= BUSY:
        return ""
    return (
        f"the load average was {machine.load_average:.1f} on {machine.cores} cores when the benchmark began: "
        "other work may have disturbed it"
    )


def _missing(rows: list[Latency], percentile: float) -> list[str]:
    name = key(percentile)
    # All candidates of a setting have the same rounds, so one note serves them.
    settings = {
        setting(row.batch, row.sequence, row.threads): (row.samples, row.missing[name])
        for row in rows
        if name in row.missing
    }
    return [
        f"{name} is not given at {where}: {got} of {needed} samples fitted into the time limit; raise duration_s"
        for where, (got, needed) in settings.items()
    ]
