"""The variants of a bundle, timed side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tledge import bench, bundle, inputs, tasks
from tledge.artifacts import BenchResult
from tledge.errors import InputError, did_you_mean
from tledge.evaluate import Run
from tledge.progress import Progress, silent
from tledge.runtime.session import provider_name

LENGTH = 32
"""Tokens of a text unless others are asked for or the model takes fewer."""


def run_bundle(
    folder: Path,
    *,
    variants: Sequence[str] | None = None,
    batches: Sequence[int] = (1,),
    lengths: Sequence[int | None] | None = None,
    threads: Sequence[int] = (1,),
    percentile: float = 90,
    duration_s: float = 120,
    provider: str = "cpu",
    extra: Mapping[str, Callable[[int], Run]] | None = None,
    progress: Progress = silent,
) -> BenchResult:
    """Latency and footprint of a bundle's variants; the arguments are those of `bench.run`.

    Texts have 32 tokens unless `lengths` says otherwise; images have no length.
    The reference is the first candidate of `extra` (torch eager), else fp32, else the first variant asked for.

    Raises:
        BundleError: the folder is no bundle, or a graph cannot be loaded.
        InputError: an unknown variant, a length that the model cannot take, or a provider that is not there.
    """
    provider_name(provider)
    manifest = bundle.load(folder)
    known = [variant.name for variant in manifest.variants]
    for name in variants or ():
        if name not in known:
            raise InputError(
                f"--variant: {name!r} is not in {folder}; known are {', '.join(known)}{did_you_mean(name, known)}"
            )
    asked = list(dict.fromkeys(variants or known))
    encoder = inputs.load(tasks.load(manifest.task).INPUT, folder)
    if encoder.max_length is None and any(length is not None for length in lengths or ()):
        raise InputError(f"--length: {folder} takes images, which have no length; leave --length out")
    graphs = {v.name: folder / v.graph.path for v in manifest.variants if v.name in asked}
    return bench.run(
        graphs,
        encoder.dummy,
        reference=next(iter(extra or ()), "fp32" if "fp32" in graphs else asked[0]),
        batches=batches,
        lengths=lengths or (None if encoder.max_length is None else min(LENGTH, encoder.max_length),),
        threads=threads,
        percentile=percentile,
        duration_s=duration_s,
        provider=provider,
        extra=extra,
        progress=progress,
    )
