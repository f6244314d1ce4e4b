"""What is at a path, timed: the variants of a bundle side by side, or a graph that tledge did not make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tledge import bench, bundle, tasks
from tledge.artifacts import BenchResult, EndToEnd
from tledge.bench import Generate, Load, end_to_end, generation, targets
from tledge.bench.targets import Target
from tledge.errors import InputError
from tledge.evaluate import Run
from tledge.progress import Progress, silent
from tledge.runtime.session import open_session, provider_name, session_run

OFFLINE_BATCHES = (1, 2, 4, 8, 16)


def run_bundle(
    path: Path,
    *,
    variants: Sequence[str] | None = None,
    batches: Sequence[int] | None = None,
    lengths: Sequence[int | None] | None = None,
    threads: Sequence[int] = (1,),
    percentile: float = 90,
    duration_s: float = bench.DURATION_S,
    provider: str = "cpu",
    strict: bool = False,
    dims: Mapping[str, int] | None = None,
    extra: Mapping[str, Callable[[int], Run]] | None = None,
    progress: Progress = silent,
) -> BenchResult:
    """Latency, footprint and the whole way of a value; the arguments are those of `bench.run` and `targets.resolve`.

    Runs have one row and texts 32 tokens unless `batches` and `lengths` say otherwise; images have no length. A graph
    of a fixed size is run at that size, which a note tells.
    The reference is the first candidate of `extra` (torch eager), else fp32, else the first variant asked for.

    Raises:
        BundleError: there is no bundle and no graph, or a graph cannot be loaded.
        InputError: an unknown variant, a batch or a length that the model cannot take, or a provider that is not there.
    """
    found, graphs = _open(path, variants, provider, dims)
    with targets.telling(found):
        result = bench.run(
            graphs,
            found[0].feeds,
            reference=_reference(found, graphs, extra),
            batches=_batches(found[0], batches, (1,)),
            lengths=_lengths(found[0], lengths),
            threads=threads,
            percentile=percentile,
            duration_s=duration_s,
            provider=provider,
            strict=strict,
            extra=extra,
            progress=progress,
        )
    whole = _end_to_end(
        found,
        lambda each: session_run(open_session(each.graph, provider=provider, threads=threads[0])),
        threads=threads[0],
        percentile=percentile,
        duration_s=duration_s,
        progress=progress,
    )
    return _told(replace(result, end_to_end=whole), path, found)


def generates(path: Path) -> bool:
    """Whether there is a bundle of a language model at a path.

    Raises:
        BundleError: there is no bundle and no graph.
    """
    return path.suffix != ".onnx" and bundle.load(bundle.find(path)).generation is not None


def run_language(
    path: Path,
    *,
    variants: Sequence[str] | None = None,
    batches: Sequence[int] = (1,),
    lengths: Sequence[int] | None = None,
    new_tokens: int = generation.NEW_TOKENS,
    threads: Sequence[int] = (1,),
    percentile: float = 90,
    duration_s: float = bench.DURATION_S,
    provider: str = "cpu",
    strict: bool = False,
    extra: Mapping[str, Callable[[int], Generate]] | None = None,
    progress: Progress = silent,
) -> BenchResult:
    """How fast the variants of a language model's bundle write; the arguments are those of `bench.run_generation`.

    Prompts have 16 and 128 tokens unless `lengths` says otherwise or the context has no room for them. The reference is
    as for `run_bundle`.

    Raises:
        BundleError: there is no bundle, or a graph cannot be loaded.
        InputError: an unknown variant, a provider that is not there, or more tokens than the context takes.
    """
    found, graphs = _open(path, variants, provider, None)
    manifest = found[0].manifest
    assert manifest is not None
    assert manifest.generation is not None, "the bundle of a language model"
    context_length = manifest.generation.context_length
    result = bench.run_generation(
        graphs,
        found[0].feeds,
        context_length=context_length,
        reference=_reference(found, graphs, extra),
        batches=batches,
        prompts=_prompts(lengths, new_tokens, context_length),
        new_tokens=new_tokens,
        threads=threads,
        percentile=percentile,
        duration_s=duration_s,
        provider=provider,
        strict=strict,
        extra=extra,
        progress=progress,
    )
    return _told(result, path, found)


def run_offline(
    path: Path,
    *,
    variants: Sequence[str] | None = None,
    batches: Sequence[int] | None = None,
    lengths: Sequence[int | None] | None = None,
    threads: Sequence[int] = (1,),
    duration_s: float = bench.DURATION_S,
    provider: str = "cpu",
    strict: bool = False,
    dims: Mapping[str, int] | None = None,
    progress: Progress = silent,
) -> BenchResult:
    """Rows a second at several batch sizes, 1 to 16 by default; arguments and errors as for `run_bundle`."""
    found, graphs = _open(path, variants, provider, dims)
    with targets.telling(found):
        result = bench.run_offline(
            graphs,
            found[0].feeds,
            batches=_batches(found[0], batches, OFFLINE_BATCHES),
            lengths=_lengths(found[0], lengths),
            threads=threads,
            duration_s=duration_s,
            provider=provider,
            strict=strict,
            progress=progress,
        )
    return _told(result, path, found)


def run_server(
    path: Path,
    load: Load,
    *,
    variants: Sequence[str] | None = None,
    batch: int | None = None,
    length: int | None = None,
    threads: Sequence[int] = (1,),
    percentile: float = 99,
    duration_s: float = bench.DURATION_S,
    provider: str = "cpu",
    strict: bool = False,
    dims: Mapping[str, int] | None = None,
    progress: Progress = silent,
) -> BenchResult:
    """Latencies under a load of requests; arguments and errors as for `run_bundle`."""
    found, graphs = _open(path, variants, provider, dims)
    with targets.telling(found):
        result = bench.run_server(
            graphs,
            found[0].feeds,
            load,
            batch=found[0].batch(batch),
            length=found[0].length(length),
            threads=threads,
            percentile=percentile,
            duration_s=duration_s,
            provider=provider,
            strict=strict,
            progress=progress,
        )
    return _told(result, path, found)


def _open(
    path: Path, variants: Sequence[str] | None, provider: str, dims: Mapping[str, int] | None
) -> tuple[list[Target], dict[str, Path]]:
    provider_name(provider)
    found = targets.variants(path, variants or (), dims=dims)
    return found, {each.name: each.graph for each in found}


def _batches(target: Target, asked: Sequence[int] | None, usual: Sequence[int]) -> list[int]:
    """Those asked for, or the usual ones, or the one that the graph takes."""
    if asked is None and target.fixed_batch is not None:
        return [target.batch()]
    return [target.batch(each) for each in asked or usual]


def _lengths(target: Target, asked: Sequence[int | None] | None) -> list[int | None]:
    return [target.length(each) for each in asked or (None,)]


def _reference(found: Sequence[Target], graphs: Mapping[str, Path], extra: Mapping[str, object] | None) -> str:
    """The first candidate of `extra` (torch eager), else fp32, else the first variant asked for."""
    return next(iter(extra or ()), "fp32" if "fp32" in graphs else found[0].name)


def _prompts(asked: Sequence[int] | None, new_tokens: int, context_length: int) -> list[int]:
    most = context_length - new_tokens
    if new_tokens < 2 or most < 1:
        raise InputError(
            f"--new-tokens: expected 2 to {context_length - 1}, since the context has {context_length} tokens with the "
            f"prompt's, got {new_tokens}"
        )
    for length in asked or ():
        if length > most:
            raise InputError(
                f"--length: a prompt of {length} tokens and {new_tokens} new ones are more than the context of "
                f"{context_length}; ask for {most} or fewer, or for fewer new tokens (--new-tokens)"
            )
    return list(asked or sorted({min(length, most) for length in generation.PROMPTS}))


def _told(result: BenchResult, path: Path, found: Sequence[Target]) -> BenchResult:
    """The result with its name, what kind of graphs it is of, and what a reader should know of these."""
    manifest = found[0].manifest
    name = path.stem if manifest is None else manifest.name
    known = dict.fromkeys(note for each in found for note in each.caveats())
    return replace(result, name=name, decoding=found[0].decoding, notes=(*known, *result.notes))


def _end_to_end(
    found: Sequence[Target],
    open_run: Callable[[Target], Run],
    *,
    threads: int,
    percentile: float,
    duration_s: float,
    progress: Progress,
) -> tuple[EndToEnd, ...]:
    """Of a bundle's variants, one example after another; none of plain graphs and of single tokens."""
    manifest, encoder = found[0].manifest, found[0].encoder
    if manifest is None or encoder is None or found[0].decoding:
        return ()
    task = tasks.load(manifest.task)
    chains = {each.name: end_to_end.chain(encoder, open_run(each), task, manifest) for each in found}
    values = [value for value in encoder.examples() if targets.is_accepted(encoder, value)]
    return end_to_end.measure(
        chains, values, threads=threads, percentile=percentile, duration_s=duration_s, progress=progress
    )
