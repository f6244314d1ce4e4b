"""What a reader should know before trusting the figures of a benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tledge.artifacts import Footprint, Generation, Latency, Machine, ServerLoad
from tledge.bench import generation
from tledge.bench.latency import key, setting
from tledge.bench.server import overloaded
from tledge.runtime.session import CPU, PROVIDERS

BUSY = 0.5
"""Load average per core, our own process left out, above which other work is likely to disturb."""
SLOW = 0.6
"""Share of the highest frequency below which cores run slowly enough to be told of."""
HOT_C = 85.0
"""Temperature in degrees Celsius from which on processors begin to slow themselves down."""
IDLE = 0.6
"""Share of the pool's threads below which a run leaves most of a pool idle."""
OVER = 0.5
"""Busy cores above the threads asked for that mean that the provider has threads of its own."""


def notes(
    machine: Machine,
    latencies: Iterable[Latency],
    percentile: float,
    *,
    footprints: Iterable[Footprint] = (),
    server: Iterable[ServerLoad] = (),
    generations: Iterable[Generation] = (),
    provider: str = "cpu",
    others: Sequence[str] = (),
) -> tuple[str, ...]:
    """One sentence for each thing that makes figures less sure; empty when there is none.

    Args:
        machine: As it was before the benchmark began.
        latencies: The measured rows.
        percentile: The percentile that was asked for.
        footprints: Of the candidates.
        server: The loads that were tried.
        generations: Of language models.
        provider: The execution provider that was asked for.
        others: Candidates that are no graphs, which run on the CPU.
    """
    rows, loads, generated = list(latencies), list(server), list(generations)
    pools = {row.threads for row in rows} | {load.threads for load in loads} | {row.threads for row in generated}
    found = [_where(provider, others), *(_threads(machine, threads) for threads in sorted(pools))]
    found += [_load(machine), _frequency(machine), _temperature(machine)]
    found.extend(_missing(rows, percentile))
    found.extend(_missing_generations(generated, percentile))
    for footprint in footprints:
        found += [_elsewhere(footprint, provider), _idle(footprint), _own_threads(footprint)]
    for load in loads:
        found += [_overload(load), _open(load)]
    return tuple(note for note in found if note)


def _where(provider: str, others: Sequence[str]) -> str:
    if not others or PROVIDERS.get(provider.lower(), provider) == CPU:
        return ""
    return f"the graphs ran on the provider {provider}, and {', '.join(others)} on the CPU"


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
    cores = "1 core" if machine.cores == 1 else f"{machine.cores} cores"
    return (
        f"the load average was {machine.load_average:.1f} on {cores} when the benchmark began: "
        "other work may have disturbed it"
    )


def _frequency(machine: Machine) -> str:
    now, most = machine.frequency_mhz, machine.max_frequency_mhz
    if now is None or most is None or now >= SLOW * most:
        return ""
    rule = f" (governor {machine.governor})" if machine.governor else ""
    return (
        f"the cores ran at {now:.0f} of {most:.0f} MHz{rule} when the benchmark began: if a power or heat "
        "limit keeps them there, latencies are longer than they need be"
    )


def _temperature(machine: Machine) -> str:
    if machine.temperature_c is None or machine.temperature_c < HOT_C:
        return ""
    return (
        f"the hottest sensor showed {machine.temperature_c:.0f} °C when the benchmark began: the processor may slow "
        "itself down, so let it cool"
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


def _missing_generations(rows: list[Generation], percentile: float) -> list[str]:
    name = key(percentile)
    settings = {
        generation.setting(row.batch, row.prompt, row.new_tokens, row.threads): (row.samples, row.missing[name])
        for row in rows
        if name in row.missing
    }
    return [
        f"{name} of the first token is not given at {where}: {got} of {needed} generations fitted into the time limit; "
        "raise duration_s"
        for where, (got, needed) in settings.items()
    ]


def _elsewhere(footprint: Footprint, provider: str) -> str:
    asked = PROVIDERS.get(provider.lower(), provider)
    nodes = footprint.nodes_by_provider
    # An onnxruntime that does not count the nodes still gives their times.
    others = [name for name in nodes or footprint.time_share_by_provider if name != asked]
    if not others:
        return ""
    total = sum(nodes.values())
    counted = {name: f"{nodes[name]} of {total}" if name in nodes else "some" for name in others}
    where = ", ".join(
        f"{count} nodes on {name}{_share(footprint, name)}{_on_purpose(footprint, name)}"
        for name, count in counted.items()
    )
    return f"{footprint.candidate} was to run on {asked} and has {where}"


def _on_purpose(footprint: Footprint, provider: str) -> str:
    shapes = footprint.shape_arithmetic
    if provider != CPU or not shapes:
        return ""
    count = sum(shapes.values())
    those = "all" if count == footprint.nodes_by_provider[CPU] else str(count)
    named = ", ".join(f"{operator} {nodes}" for operator, nodes in shapes.items())
    return f", {those} of them shape arithmetic that belongs there ({named})"


def _share(footprint: Footprint, provider: str) -> str:
    share = footprint.time_share_by_provider.get(provider)
    return "" if share is None else f" ({100 * share:.0f} % of the time)"


def _own_threads(footprint: Footprint) -> str:
    threads, busy = footprint.threads, footprint.busy_cores
    if threads is None or busy is None or busy < threads + OVER:
        return ""
    asked = "1 thread was" if threads == 1 else f"{threads} threads were"
    return (
        f"{footprint.candidate}: {asked} asked for, but {busy:.1f} cores were busy: the provider has threads of its own"
    )


def _idle(footprint: Footprint) -> str:
    threads, busy = footprint.threads, footprint.busy_cores
    if threads is None or busy is None or threads == 1 or busy >= IDLE * threads:
        return ""
    return (
        f"{footprint.candidate} kept {busy:.1f} of {threads} threads busy: it is too small for more, or other work "
        "took the cores"
    )


def _overload(load: ServerLoad) -> str:
    if not overloaded(load):
        return ""
    return (
        f"{load.candidate} was busy {100 * load.utilization:.0f} % of the time at {load.rate:g} requests a second and "
        f"answered {load.achieved_rate:.1f}: it is overloaded or close to it, and the longer that lasts the longer "
        "requests wait"
    )


def _open(load: ServerLoad) -> str:
    if load.met is not None:
        return ""
    return (
        f"{load.requests} requests are too few to say whether {load.percentile} of {load.candidate} is within "
        f"{load.bound_ms:g} ms at {load.rate:g} requests a second; raise duration_s"
    )
