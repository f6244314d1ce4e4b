"""Latency, memory and placement of graphs on this machine, with what is needed to trust the figures."""

from __future__ import annotations

import datetime
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tledge.artifacts import BenchResult, Footprint, Generation, Latency, ServerLoad, Throughput
from tledge.bench import compare, generation, latency, machine, offline, server, targets
from tledge.bench.compare import Setting
from tledge.bench.generation import Generate
from tledge.bench.latency import setting
from tledge.bench.notes import notes
from tledge.bench.targets import Feeds, Target
from tledge.evaluate import Array, Run
from tledge.footprint import memory
from tledge.progress import Progress, silent
from tledge.runtime.decoder import Decoder
from tledge.runtime.session import bound_run, open_session, session_run

__all__ = [
    "Feeds",
    "Generate",
    "Load",
    "compared",
    "run",
    "run_generation",
    "run_offline",
    "run_server",
    "setting",
]

DURATION_S = 120.0


@dataclass(frozen=True, slots=True)
class Load:
    """What the scenario `server` asks: requests a second, and the latency in milliseconds to keep."""

    rate: float
    bound_ms: float


def run(
    graphs: Mapping[str, Path],
    make_feeds: Feeds,
    *,
    reference: str,
    batches: Sequence[int] = (1,),
    lengths: Sequence[int | None] = (32, 128),
    threads: Sequence[int] = (1,),
    percentile: float = 90,
    duration_s: float = DURATION_S,
    provider: str = "cpu",
    strict: bool = False,
    extra: Mapping[str, Callable[[int], Run]] | None = None,
    repeats: int = memory.REPEATS,
    progress: Progress = silent,
) -> BenchResult:
    """Scenario `single-stream`: every candidate at every setting, one run after the other, and each graph's footprint.

    Candidates are interleaved within a setting. Rows come by threads, then batch, then length, then candidate.
    Footprints are taken at the first of each.

    Args:
        graphs: ONNX files by candidate name.
        make_feeds: Gives the input tensors of a setting; all candidates get the same ones.
        reference: The candidate that the others are compared with.
        batches: Rows of one run.
        lengths: Tokens of a row; `[None]` for inputs without a length.
        threads: Threads of one run.
        percentile: The percentile to take enough samples for, in percent.
        duration_s: Time limit for one setting, in seconds.
        provider: Execution provider of the graphs.
        strict: Make work on rows that the provider leaves to the CPU an error.
        extra: Candidates that are no graphs, by name: given the number of threads, each gives its run. A
            number of threads that is global to the process is theirs to set.
        repeats: Fresh processes for one footprint; 0 takes none.
        progress: Shows the work.

    Raises:
        RecipeError: the reference is not among the candidates.
        BundleError: a graph cannot be loaded or run.
        InputError: the provider is not available, or it is strict and leaves work to the CPU.
    """
    others = extra or {}
    assert not graphs.keys() & others.keys(), "candidates need different names"
    latency.check_reference(reference, {**graphs, **others})
    result = _begin(provider)
    costs = functools.partial(memory.footprint, threads=threads[0], provider=provider, strict=strict, repeats=repeats)
    feeds = make_feeds(batches[0], lengths[0])
    footprints = _footprints(graphs, functools.partial(costs, feeds=feeds), progress) if repeats else ()
    rows: list[Latency] = []
    for count in threads:
        sessions = {n: open_session(p, provider=provider, threads=count, strict=strict) for n, p in graphs.items()}
        opened = {name: open_extra(count) for name, open_extra in others.items()}
        for batch, length in itertools.product(batches, lengths):
            feeds = make_feeds(batch, length)
            runs = {name: bound_run(session, feeds) for name, session in sessions.items()}
            samples = latency.measure(
                runs | {name: functools.partial(candidate, feeds) for name, candidate in opened.items()},
                reference=reference,
                percentile=percentile,
                duration_s=duration_s,
                description=f"Timing {setting(batch, length, count)}",
                progress=progress,
            )
            row = functools.partial(latency.summarize, samples, reference=reference, percentile=percentile)
            rows.extend(row(candidate=name, batch=batch, sequence=length, threads=count) for name in samples)
    told = notes(result.machine, rows, percentile, footprints=footprints, provider=provider, others=tuple(others))
    return replace(result, latencies=tuple(rows), footprints=footprints, notes=told)


def run_generation(
    graphs: Mapping[str, Path],
    make_feeds: Feeds,
    *,
    context_length: int,
    reference: str,
    batches: Sequence[int] = (1,),
    prompts: Sequence[int] = generation.PROMPTS,
    new_tokens: int = generation.NEW_TOKENS,
    threads: Sequence[int] = (1,),
    percentile: float = 90,
    duration_s: float = DURATION_S,
    provider: str = "cpu",
    strict: bool = False,
    extra: Mapping[str, Callable[[int], Generate]] | None = None,
    repeats: int = memory.REPEATS,
    progress: Progress = silent,
) -> BenchResult:
    """Language models that go on with random prompts, generation by generation in turn, and each graph's footprint.

    Rows come by threads, then batch, then prompt, then candidate. Arguments and errors are those of `run`, and further:

    Args:
        graphs: Decoders' graphs by candidate name.
        make_feeds: Gives the input tensors of one step, for the footprint.
        context_length: Tokens that the models can read.
        reference: The candidate that the others are compared with.
        batches: Prompts in one generation.
        prompts: Tokens of a prompt.
        new_tokens: Tokens after each prompt.
        threads: Threads of one run.
        percentile: The percentile to take enough samples for, in percent.
        duration_s: Time limit for one setting, in seconds.
        provider: Execution provider of the graphs.
        strict: Make work on rows that the provider leaves to the CPU an error.
        extra: Candidates that are no graphs, by name: given the number of threads, each gives what generates.
        repeats: Fresh processes for one footprint; 0 takes none.
        progress: Shows the work.
    """
    others = extra or {}
    assert not graphs.keys() & others.keys(), "candidates need different names"
    latency.check_reference(reference, {**graphs, **others})
    result = _begin(provider)
    costs = functools.partial(memory.footprint, threads=threads[0], provider=provider, strict=strict, repeats=repeats)
    feeds = make_feeds(batches[0], prompts[0])
    footprints = _footprints(graphs, functools.partial(costs, feeds=feeds), progress) if repeats else ()
    rows: list[Generation] = []
    for count in threads:
        opened = functools.partial(open_session, provider=provider, threads=count, strict=strict)
        decoders = {name: Decoder(opened(path), context_length=context_length) for name, path in graphs.items()}
        vocab_size = min(each.vocab_size for each in decoders.values())
        candidates = {name: generation.decoder_generate(each) for name, each in decoders.items()}
        candidates |= {name: open_extra(count) for name, open_extra in others.items()}
        for batch, prompt in itertools.product(batches, prompts):
            paces = generation.measure(
                candidates,
                generation.random_prompts(vocab_size, batch, prompt),
                new_tokens=new_tokens,
                reference=reference,
                percentile=percentile,
                duration_s=duration_s,
                description=f"Generating {generation.setting(batch, prompt, new_tokens, count)}",
                progress=progress,
            )
            row = functools.partial(
                generation.summarize,
                paces,
                reference=reference,
                batch=batch,
                prompt=prompt,
                new_tokens=new_tokens,
                threads=count,
                percentile=percentile,
            )
            rows.extend(row(candidate=name) for name in paces)
    told = notes(
        result.machine,
        (),
        percentile,
        generations=rows,
        footprints=footprints,
        provider=provider,
        others=tuple(others),
    )
    return replace(result, generations=tuple(rows), footprints=footprints, notes=told, decoding=True)


def run_offline(
    graphs: Mapping[str, Path],
    make_feeds: Feeds,
    *,
    batches: Sequence[int] = (1, 2, 4, 8, 16),
    lengths: Sequence[int | None] = (32,),
    threads: Sequence[int] = (1,),
    duration_s: float = DURATION_S,
    provider: str = "cpu",
    strict: bool = False,
    progress: Progress = silent,
) -> BenchResult:
    """Scenario `offline`: rows a second at every batch size, all of a setting interleaved; arguments as for `run`."""
    result = _begin(provider)
    rows: list[Throughput] = []
    for count in threads:
        runs = _open(graphs, count, provider, strict)
        for length in lengths:
            feeds: dict[int, Mapping[str, Array]] = {batch: make_feeds(batch, length) for batch in batches}
            rows += offline.measure(
                runs, feeds, sequence=length, threads=count, duration_s=duration_s, progress=progress
            )
    return replace(result, throughput=tuple(rows), notes=notes(result.machine, (), 50, provider=provider))


def run_server(
    graphs: Mapping[str, Path],
    make_feeds: Feeds,
    load: Load,
    *,
    batch: int = 1,
    length: int | None = None,
    threads: Sequence[int] = (1,),
    percentile: float = 99,
    duration_s: float = DURATION_S,
    provider: str = "cpu",
    strict: bool = False,
    progress: Progress = silent,
) -> BenchResult:
    """Scenario `server`: requests that arrive at random, one candidate after the other; arguments as for `run`."""
    result = _begin(provider)
    rows: list[ServerLoad] = []
    for count in threads:
        for name, candidate in _open(graphs, count, provider, strict).items():
            rows.append(
                server.serve(
                    functools.partial(candidate, make_feeds(batch, length)),
                    candidate=name,
                    batch=batch,
                    sequence=length,
                    threads=count,
                    rate=load.rate,
                    bound_ms=load.bound_ms,
                    percentile=percentile,
                    duration_s=duration_s,
                    progress=progress,
                )
            )
    return replace(result, server=tuple(rows), notes=notes(result.machine, (), 50, server=rows, provider=provider))


def compared(
    new: Target,
    old: Target,
    settings: Sequence[Setting],
    *,
    within: float = compare.WITHIN,
    duration_s: float = compare.DURATION_S,
    isolate: bool = False,
    progress: Progress = silent,
) -> BenchResult:
    """Two graphs against each other at one or more settings; arguments and errors as for `compare.compare`."""
    result = _begin(settings[0].provider)
    timed = functools.partial(
        compare.compare, new, old, within=within, duration_s=duration_s, isolate=isolate, progress=progress
    )
    with targets.telling((new, old)):
        found = tuple(timed(setting=each) for each in settings)
    name = new.name if new.manifest is None else new.manifest.name
    told = notes(result.machine, (), 50, provider=result.provider)
    known = dict.fromkeys((*new.caveats(), *old.caveats()))
    return replace(result, name=name, comparisons=found, notes=(*known, *told), decoding=new.decoding)


def _begin(provider: str) -> BenchResult:
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return BenchResult(machine.describe(), (), (), created=created, provider=provider)


def _open(graphs: Mapping[str, Path], threads: int, provider: str, strict: bool) -> dict[str, Run]:
    opened = functools.partial(open_session, provider=provider, threads=threads, strict=strict)
    return {name: session_run(opened(path)) for name, path in graphs.items()}


def _footprints(
    graphs: Mapping[str, Path], measure: Callable[..., Footprint], progress: Progress
) -> tuple[Footprint, ...]:
    found = []
    with progress("Loading in fresh processes", total=len(graphs)) as advance:
        for name, path in graphs.items():
            found.append(measure(path, candidate=name))
            advance(1)
    return tuple(found)
