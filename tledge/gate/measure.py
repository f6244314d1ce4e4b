"""Measure what a budget asks about: latency, footprint, a comparison, quality and parity, and no more than that."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tledge import graph_file, overflow, processor, tasks
from tledge.artifacts import BenchResult, Comparison, Footprint, Latency, Machine
from tledge.bench import latency, machine, stats
from tledge.bench.compare import DURATION_S, Setting, compare
from tledge.bench.notes import notes
from tledge.bench.targets import Target
from tledge.bundle import Manifest, golden, golden_language
from tledge.errors import InputError, RecipeError, did_you_mean
from tledge.footprint import memory
from tledge.gate import rows as rows_
from tledge.gate.budget import Budget, RowsFile, Scope, percentile_of
from tledge.gate.measurements import Measured, Measurements, Parity, Quality
from tledge.gate.parity import parity
from tledge.gate.rows import Rows
from tledge.gate.scoring import Scoring
from tledge.gate.side import Side, check_comparable, open_side
from tledge.progress import Progress, silent
from tledge.runtime.session import bound_run, open_session, provider_name, session_run
from tledge.tasks import Task

MARGIN = 4
"""How many times the samples beyond a percentile are taken, so that its bounds are near enough to tell."""
QUALITY = ("min_metric", "max_metric", "max_metric_drop")
_FOOTPRINT = ("load_ms", "peak_memory_mb")

T = TypeVar("T")


class Compare(Protocol):
    """What `bench.compare.compare` is."""

    def __call__(
        self, new: Target, old: Target, *, setting: Setting, within: float, duration_s: float, isolate: bool,
        progress: Progress,
    ) -> Comparison: ...  # fmt: skip


def measure(
    bundle: Path,
    budget: Budget,
    *,
    against: Path | None = None,
    rows: Path | None = None,
    provider: str = "cpu",
    strict: bool = False,
    duration_s: float = DURATION_S,
    isolate: bool = False,
    progress: Progress = silent,
    compare: Compare = compare,
) -> Measurements:
    """What a bundle is and does here, at each of the budget's scopes.

    Args:
        bundle: A bundle or a run folder.
        budget: Says what to measure.
        against: The bundle or run folder to compare with.
        rows: Labelled rows, instead of the file that the budget names.
        provider: Where the scopes run that name no provider.
        strict: Take it for an anomaly if any node runs on another provider, shape arithmetic aside.
        duration_s: Time limit of each timing and each comparison, in seconds.
        isolate: Compare in a process of each side's own.
        progress: Shows the work.
        compare: Compares two targets; `bench.compare.compare` but in tests.

    Raises:
        BundleError: a folder is no bundle, or is damaged.
        InputError: a variant, a provider or a length that is not there, or bundles that cannot be compared.
        RecipeError: the budget names a metric that the task has not.
        DataError: the rows cannot be read.
    """
    new, old = open_side(bundle), None if against is None else open_side(against)
    if old is not None:
        check_comparable(new, old)
    task = tasks.load(new.manifest.task)
    work = _Work(
        new=new,
        old=old,
        scoring=Scoring(new, old, task, _metric(budget, task), labelled_rows(new, budget, rows), progress),
        provider=provider,
        duration_s=duration_s,
        isolate=isolate,
        progress=progress,
        compare=compare,
    )
    here = machine.describe()
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    scopes = tuple(work.scope(scope) for scope in budget.scopes)
    return Measurements(
        name=new.manifest.name,
        version=new.version,
        against="" if old is None else old.title,
        bench=_bench(here, scopes, new.manifest, provider, created),
        scopes=scopes,
        strict=strict,
        created=created,
        processors=_processors(new.manifest, here),
    )


def _processors(manifest: Manifest, here: Machine) -> tuple[str, ...]:
    """The kinds of processor that the evidence was gathered on."""
    kinds = [variant.processor.kind for variant in manifest.variants if variant.processor is not None]
    return tuple(dict.fromkeys([*kinds, processor.kind(here.architecture, here.cpu_flags)]))


def _metric(budget: Budget, task: Task) -> str:
    metric = budget.metric or task.METRIC
    if metric not in task.METRICS:
        known = f"the task has {', '.join(task.METRICS)}{did_you_mean(metric, task.METRICS)}"
        raise RecipeError(f"the budget's metric {metric!r} is not known; {known}")
    lower = tasks.lower_is_better(task, metric)
    right, wrong = ("max_metric", "min_metric") if lower else ("min_metric", "max_metric")
    if any(wrong in scope.limits for scope in budget.scopes):
        raise RecipeError(
            f"the budget's {wrong}: {metric} is better when {'lower' if lower else 'higher'}; use {right}"
        )
    return metric


def labelled_rows(side: Side, budget: Budget, given: Path | None) -> Rows | None:
    """The labelled rows to evaluate on, where any limit asks for them.

    Raises:
        InputError: rows for a language model, which is judged by the blocks of tokens that its run kept.
    """
    if not any(limit in QUALITY for scope in budget.scopes for limit in scope.limits):
        return None
    file = budget.evaluation
    if side.manifest.generation is not None:
        if given is not None or file is not None:
            raise InputError(
                f"{side.path} is a language model's, which has no labelled rows; leave --rows and evaluation out, and "
                "give run folders"
            )
        return None
    if given is not None:
        file = RowsFile(given) if file is None else dataclasses.replace(file, rows=given)
    return None if file is None else rows_.read(file, side.manifest, side.encoder)


def _bench(here: Machine, scopes: Sequence[Measured], of: Manifest, provider: str, created: str) -> BenchResult:
    rows = _unique(scope.latency for scope in scopes)
    footprints = _unique(scope.footprint for scope in scopes)
    return BenchResult(
        machine=here,
        latencies=rows,
        footprints=footprints,
        notes=notes(here, rows, 50, footprints=footprints, provider=provider),
        created=created,
        name=of.name,
        provider=provider,
        comparisons=_unique(scope.comparison for scope in scopes),
        decoding=of.generation is not None,
    )


def _unique(found: Any) -> tuple[Any, ...]:
    kept: list[Any] = []
    for each in found:
        if each is not None and each not in kept:
            kept.append(each)
    return tuple(kept)


@dataclass
class _Work:
    """Measures scopes, and nothing twice."""

    new: Side
    old: Side | None
    scoring: Scoring
    provider: str
    duration_s: float
    isolate: bool
    progress: Progress
    compare: Compare
    done: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        if key not in self.done:
            self.done[key] = make()
        found: T = self.done[key]
        return found

    def scope(self, scope: Scope) -> Measured:
        variant, provider = self.new.variant(scope.variant), scope.provider or self.provider
        setting = Setting(scope.batch, self.new.length(scope.length), scope.threads, provider)
        full_name = provider_name(provider)
        limits, missing = scope.limits, dict[str, str]()
        percents = tuple(sorted({percent for limit in limits if (percent := percentile_of(limit)) is not None}))
        found = Measured(
            variant=variant,
            provider=provider,
            provider_name=full_name,
            batch=setting.batch,
            sequence=setting.length,
            threads=setting.threads,
            size_mb=graph_file.size_bytes(self.new.graph(variant)) / 1e6,
            latency=self._latency(variant, setting, percents) if percents else None,
            footprint=self._footprint(variant, setting) if _needs_footprint(limits, provider) else None,
            comparison=self._comparison(scope, variant, setting, missing) if "max_slowdown" in limits else None,
            quality=self._quality(scope, variant, provider, missing) if limits.keys() & set(QUALITY) else None,
            parity=self._parity(variant, provider, missing) if "max_parity_error" in limits else None,
            overflow=self.once(("overflow", variant), lambda: overflow.check(self.new.graph(variant))),
        )
        return dataclasses.replace(found, missing={key: missing[key] for key in missing if key in limits})

    def _latency(self, variant: str, setting: Setting, percents: tuple[float, ...]) -> Latency:
        return self.once(("latency", variant, setting, percents), lambda: self._timed(variant, setting, percents))

    def _timed(self, variant: str, setting: Setting, percents: tuple[float, ...]) -> Latency:
        session = open_session(self.new.graph(variant), provider=setting.provider, threads=setting.threads)
        run = bound_run(session, self.new.target(variant).feeds(setting.batch, setting.length))
        samples = latency.measure(
            {variant: run},
            reference=variant,
            percentile=100 - (100 - max(percents)) / MARGIN,
            duration_s=self.duration_s,
            description=f"Timing {variant} at {latency.setting(setting.batch, setting.length, setting.threads)}",
            progress=self.progress,
        )
        return summarize(samples[variant], variant, setting, percents)

    def _footprint(self, variant: str, setting: Setting) -> Footprint:
        def made() -> Footprint:
            with self.progress(f"Loading {variant} in fresh processes", total=1) as advance:
                found = memory.footprint(
                    self.new.graph(variant),
                    candidate=variant,
                    feeds=self.new.target(variant).feeds(setting.batch, setting.length),
                    threads=setting.threads,
                    provider=setting.provider,
                )
                advance(1)
            return found

        return self.once(("footprint", variant, setting), made)

    def _comparison(self, scope: Scope, variant: str, setting: Setting, missing: dict[str, str]) -> Comparison | None:
        if self.old is None:
            missing["max_slowdown"] = "there is nothing to compare the latency with; give --against OLD"
            return None
        old, name = self.old, self.old.variant(scope.variant)
        within = scope.limits["max_slowdown"]
        old.length(setting.length)
        return self.once(
            ("comparison", variant, name, setting, within),
            lambda: self.compare(
                self.new.target(variant),
                old.target(name),
                setting=setting,
                within=within,
                duration_s=self.duration_s,
                isolate=self.isolate,
                progress=self.progress,
            ),
        )

    def _quality(self, scope: Scope, variant: str, provider: str, missing: dict[str, str]) -> Quality | None:
        with_pair = "max_metric_drop" in scope.limits
        return self.scoring.quality(variant, provider, missing, asked=scope.variant, with_pair=with_pair)

    def _parity(self, variant: str, provider: str, missing: dict[str, str]) -> Parity | None:
        vectors = golden.read(self.new.folder, self.new.manifest.golden)
        if not golden.has_reference(vectors):
            missing["max_parity_error"] = (
                "the bundle has no golden outputs of torch (its graph resizes images, or torch was not at hand); "
                "leave max_parity_error out"
            )
            return None
        run = session_run(open_session(self.new.graph(variant), provider=provider))
        if self.new.manifest.generation is not None:
            run = golden_language.graph_run(run, self.new.manifest.variant(variant).graph.inputs)
        return self.once(("parity", variant, provider), lambda: parity(vectors, run))


def summarize(samples: Sequence[float], variant: str, setting: Setting, percents: Sequence[float]) -> Latency:
    """One row with the percentiles that were asked for beside the usual ones; `samples` are milliseconds."""
    row = latency.summarize(
        {variant: samples},
        candidate=variant,
        reference=variant,
        batch=setting.batch,
        sequence=setting.length,
        threads=setting.threads,
        percentile=percents[-1],
    )
    found, missing, lows = dict(row.percentiles_ms), dict(row.missing), dict(row.percentiles_low_ms)
    for percent in percents[:-1]:
        name, value = latency.key(percent), stats.percentile(samples, percent)
        if value is None:
            missing[name] = stats.samples_needed(percent)
            continue
        found[name] = value
        low = stats.percentile_low(samples, percent) if percent > 50 else None
        if low is not None:
            lows[name] = low
    return dataclasses.replace(row, percentiles_ms=found, missing=missing, percentiles_low_ms=lows)


def _needs_footprint(limits: Mapping[str, float], provider: str) -> bool:
    """For load and memory; and wherever something runs on another provider, to see whether it does."""
    runs = any(limit not in ("size_mb", *_FOOTPRINT) for limit in limits)
    return any(limit in limits for limit in _FOOTPRINT) or (runs and provider != "cpu")
