"""Measure what a budget asks about: latency, footprint, a comparison, quality and parity, and no more than that."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from tledge import bundle, inputs, tasks
from tledge.artifacts import BenchResult, Comparison, Footprint, Latency, Machine
from tledge.bench import latency, machine, memory, stats
from tledge.bench.compare import DURATION_S, Setting, compare
from tledge.bench.notes import notes
from tledge.bench.targets import LENGTH, Target, bundle_of
from tledge.bundle import Manifest, checksum, golden
from tledge.errors import InputError, RecipeError, did_you_mean
from tledge.evaluate import score
from tledge.gate import quality
from tledge.gate import rows as rows_
from tledge.gate.budget import Budget, RowsFile, Scope, percentile_of
from tledge.gate.measurements import Measured, Measurements, Parity, Quality
from tledge.gate.rows import Answers, Rows
from tledge.inputs import Input
from tledge.progress import Progress, silent
from tledge.runtime.session import open_session, provider_name, session_run
from tledge.tasks import Task

MARGIN = 4
"""How many times the samples beyond a percentile are taken, so that its bounds are near enough to tell."""
_QUALITY = ("min_metric", "max_metric_drop")
_FOOTPRINT = ("load_ms", "peak_memory_mb")
_FP32 = "fp32"
_NO_ROWS = "there are no labelled rows: give --rows FILE, evaluation.rows in the budget"

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
        strict: Take it for an anomaly if any node runs on another provider.
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
    new, old = _open(bundle), None if against is None else _open(against)
    if old is not None:
        _check_comparable(new, old)
    work = _Work(
        new=new,
        old=old,
        task=tasks.load(new.manifest.task),
        metric=_metric(budget, tasks.load(new.manifest.task)),
        rows=_rows(new, budget, rows),
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
        bench=_bench(here, scopes, new.manifest.name, provider, created),
        scopes=scopes,
        strict=strict,
        created=created,
    )


@dataclass(frozen=True, slots=True)
class _Side:
    """A bundle that is opened; `variants` is the run's folder of variants, `None` for a bundle alone."""

    path: Path
    folder: Path
    manifest: Manifest
    encoder: Input
    variants: Path | None

    @property
    def version(self) -> str:
        return checksum.sha256(self.folder / "bundle.json")[:12]

    @property
    def title(self) -> str:
        return f"{self.manifest.name} {self.version}"

    def graph(self, variant: str) -> Path:
        return self.folder / self.manifest.variant(variant).graph.path

    def variant(self, asked: str | None) -> str:
        name, known = asked or self.manifest.chosen, [each.name for each in self.manifest.variants]
        if name not in known:
            known_names = f"it has {', '.join(known)}{did_you_mean(name, known)}"
            raise InputError(f"the budget's variant {name!r} is not in {self.path}; {known_names}")
        return name


def _open(path: Path) -> _Side:
    folder = bundle_of(path)
    manifest = bundle.load(folder)
    encoder = inputs.load(manifest.input.kind, folder)
    return _Side(path, folder, manifest, encoder, path / "quantize" if folder != path else None)


def _check_comparable(new: _Side, old: _Side) -> None:
    for what, ours, theirs in (
        ("task", new.manifest.task, old.manifest.task),
        ("labels", ", ".join(sorted(new.manifest.labels)), ", ".join(sorted(old.manifest.labels))),
    ):
        if ours != theirs:
            raise InputError(
                f"{new.path} and {old.path} cannot be compared: the {what} of the one: {ours[:80]}; of the other: "
                f"{theirs[:80]}"
            )


def _metric(budget: Budget, task: Task) -> str:
    if budget.metric is not None and budget.metric not in task.METRICS:
        known = f"the task has {', '.join(task.METRICS)}{did_you_mean(budget.metric, task.METRICS)}"
        raise RecipeError(f"the budget's metric {budget.metric!r} is not known; {known}")
    return budget.metric or task.METRIC


def _rows(side: _Side, budget: Budget, given: Path | None) -> Rows | None:
    """The labelled rows to evaluate on, where any limit asks for them."""
    if not any(limit in _QUALITY for scope in budget.scopes for limit in scope.limits):
        return None
    file = budget.evaluation
    if given is not None:
        file = RowsFile(given) if file is None else dataclasses.replace(file, rows=given)
    return None if file is None else rows_.read(file, side.manifest, side.encoder)


def _bench(here: Machine, scopes: Sequence[Measured], name: str, provider: str, created: str) -> BenchResult:
    rows = _unique(scope.latency for scope in scopes)
    footprints = _unique(scope.footprint for scope in scopes)
    return BenchResult(
        machine=here,
        latencies=rows,
        footprints=footprints,
        notes=notes(here, rows, 50, footprints=footprints, provider=provider),
        created=created,
        name=name,
        provider=provider,
        comparisons=_unique(scope.comparison for scope in scopes),
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

    new: _Side
    old: _Side | None
    task: Task
    metric: str
    rows: Rows | None
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
        setting = Setting(scope.batch, _length(self.new, scope.length), scope.threads, provider)
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
            size_mb=memory.size_bytes(self.new.graph(variant)) / 1e6,
            latency=self._latency(variant, setting, percents) if percents else None,
            footprint=self._footprint(variant, setting) if _needs_footprint(limits, provider) else None,
            comparison=self._comparison(scope, variant, setting, missing) if "max_slowdown" in limits else None,
            quality=self._quality(scope, variant, provider, missing) if limits.keys() & set(_QUALITY) else None,
            parity=self._parity(variant, provider, missing) if "max_parity_error" in limits else None,
        )
        return dataclasses.replace(found, missing={key: missing[key] for key in missing if key in limits})

    def _latency(self, variant: str, setting: Setting, percents: tuple[float, ...]) -> Latency:
        return self.once(("latency", variant, setting, percents), lambda: self._timed(variant, setting, percents))

    def _timed(self, variant: str, setting: Setting, percents: tuple[float, ...]) -> Latency:
        run = session_run(open_session(self.new.graph(variant), provider=setting.provider, threads=setting.threads))
        feeds = self.new.encoder.dummy(setting.batch, setting.length)
        samples = latency.measure(
            {variant: functools.partial(run, feeds)},
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
                    feeds=self.new.encoder.dummy(setting.batch, setting.length),
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
        _length(old, setting.length)
        return self.once(
            ("comparison", variant, name, setting, within),
            lambda: self.compare(
                _target(self.new, variant, f"{variant} of {self.new.title}"),
                _target(old, name, f"{name} of {old.title}"),
                setting=setting,
                within=within,
                duration_s=self.duration_s,
                isolate=self.isolate,
                progress=self.progress,
            ),
        )

    def _quality(self, scope: Scope, variant: str, provider: str, missing: dict[str, str]) -> Quality | None:
        ours = self._answers(self.new, variant, provider)
        if ours is None:
            missing["max_metric_drop"] = f"{_NO_ROWS}, or run folders that have quantize/{rows_.ANSWERS}"
            return self._stored_quality(variant, missing)
        source = self.rows.name if self.rows is not None else "the run's test split"
        found = self.once(("alone", variant, provider), lambda: self._alone(ours, source))
        pairs_with = self._reference(scope, variant, missing) if "max_metric_drop" in scope.limits else None
        if pairs_with is None:
            return found
        side, other = pairs_with
        theirs = self._answers(side, other, provider)
        if theirs is None:
            missing["max_metric_drop"] = f"{side.path} has no stored answers of {other}; give --rows FILE"
            return found
        name = other if side is self.new else f"{other} of {side.title}"
        key = ("pair", variant, str(side.folder), other, provider)
        found, reason = self.once(key, lambda: self._with_pair(found, ours, theirs, side, name))
        if reason:
            missing["max_metric_drop"] = reason
        return found

    def _reference(self, scope: Scope, variant: str, missing: dict[str, str]) -> tuple[_Side, str] | None:
        """What a metric is compared with: the old bundle's variant, or without one the same bundle's fp32."""
        if self.old is not None:
            return self.old, self.old.variant(scope.variant)
        if variant != _FP32 and any(each.name == _FP32 for each in self.new.manifest.variants):
            return self.new, _FP32
        missing["max_metric_drop"] = (
            f"there is nothing to compare the {self.metric} of {variant} with; give --against OLD"
        )
        return None

    def _answers(self, side: _Side, variant: str, provider: str) -> Answers | None:
        """What a variant gives for the evaluation rows: run here for those of a file, else as the run stored it."""
        if self.rows is not None:
            rows = self.rows
            return self.once(
                ("answers", str(side.folder), variant, provider), lambda: self._run(side, variant, provider, rows)
            )
        if side.variants is None or provider != "cpu":
            return None
        return rows_.read_answers(side.variants, variant)

    def _run(self, side: _Side, variant: str, provider: str, rows: Rows) -> Answers:
        run = session_run(open_session(side.graph(variant), provider=provider))
        targets = rows.targets(self.task, side.manifest.labels)
        evaluation = score(
            run,
            side.encoder,
            rows.values,
            targets,
            self.task,
            progress=self.progress,
            description=f"Scoring {variant} of {side.title}",
        )
        return Answers(rows.hashes, targets, evaluation.outputs)

    def _alone(self, ours: Answers, source: str) -> Quality:
        finite, broken = _finite(ours)
        low, high = quality.interval(self.task, self.metric, finite.outputs, finite.targets)
        calibrated = {int(digits, 16) for side in (self.new, self.old) if side for digits in _calibration(side)}
        return Quality(
            metric=self.metric,
            value=quality.value(self.task, self.metric, finite.outputs, finite.targets),
            rows=len(ours.hashes),
            source=source,
            low=low,
            high=high,
            calibration_rows=sum(value in calibrated for value in ours.hashes.tolist()),
            non_finite=int(broken.sum()),
        )

    def _with_pair(self, found: Quality, ours: Answers, theirs: Answers, side: _Side, name: str) -> tuple[Quality, str]:
        """The paired test added, or why there is none."""
        found = dataclasses.replace(found, other_rows=len(theirs.hashes))
        if self.rows is None:
            if side.manifest.labels != self.new.manifest.labels:
                return found, "the two bundles order their labels differently; give --rows FILE"
            ours, theirs = rows_.join(ours, theirs)
            if not len(ours.hashes):
                return found, "the two runs have no test row in common; give --rows FILE"
            different = np.asarray(ours.targets != theirs.targets).reshape(len(ours.hashes), -1).any(axis=1)
            found = dataclasses.replace(found, relabelled=int(different.sum()))
        (ours, broken), (theirs, others_broken) = _finite(ours), _finite(theirs)
        pair = quality.paired(
            self.task, self.metric, ours.outputs, ours.targets, theirs.outputs, theirs.targets, reference=name
        )
        return dataclasses.replace(found, paired=pair, non_finite=int((broken | others_broken).sum())), ""

    def _stored_quality(self, variant: str, missing: dict[str, str]) -> Quality | None:
        """The metric that was measured when the bundle was made."""
        manifest = self.new.manifest
        metrics = manifest.variant(variant).test_metrics or (manifest.metrics if variant == manifest.chosen else {})
        if self.metric not in metrics:
            missing["min_metric"] = f"the bundle has no {self.metric} of {variant} on test rows; give --rows FILE"
            return None
        count, value = manifest.provenance.rows.get("test", 0), metrics[self.metric]
        is_share = count > 0 and self.metric in quality.SHARES
        low, high = quality.wilson(value, count) if is_share else (None, None)
        return Quality(self.metric, value, count, "the test split, measured when the bundle was made", low, high)

    def _parity(self, variant: str, provider: str, missing: dict[str, str]) -> Parity | None:
        vectors = golden.read(self.new.folder, self.new.manifest.golden)
        if not golden.has_reference(vectors):
            missing["max_parity_error"] = (
                "the bundle has no golden outputs of torch (its graph resizes images, or torch was not at hand); "
                "leave max_parity_error out"
            )
            return None
        run = session_run(open_session(self.new.graph(variant), provider=provider))
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


def parity(vectors: golden.Vectors, run: golden.Run) -> Parity:
    """How far a graph's golden outputs are from torch's, in all cases; a share of torch's largest of each output."""
    worst, errors = 0.0, []
    got = {case: run(tensors) for case, tensors in vectors.inputs.items()}
    for name in next(iter(vectors.outputs.values()))[golden.REFERENCE]:
        expected = {case: by_source[golden.REFERENCE][name] for case, by_source in vectors.outputs.items()}
        largest = max(float(np.abs(array).max(initial=0)) for array in expected.values())
        apart = [np.abs(got[case][name].astype(np.float64) - array).max(initial=0) for case, array in expected.items()]
        furthest = float(np.max(apart))  # a NaN stays one
        worst = float(np.max([worst, furthest]))
        errors.append(furthest / largest if largest else float(np.where(furthest == 0, 0.0, np.inf)))
    return Parity(worst, float(np.max(errors)))


def _needs_footprint(limits: Mapping[str, float], provider: str) -> bool:
    """For load and memory; and wherever something runs on another provider, to see whether it does."""
    runs = any(limit not in ("size_mb", *_FOOTPRINT) for limit in limits)
    return any(limit in limits for limit in _FOOTPRINT) or (runs and provider != "cpu")


def _length(side: _Side, asked: int | None) -> int | None:
    longest = side.encoder.max_length
    if longest is None:
        if asked is not None:
            raise InputError(f"the budget's length {asked}: {side.path} takes images, which have no length; remove it")
        return None
    if asked is not None and asked > longest:
        raise InputError(f"the budget's length {asked}: {side.path} takes at most {longest} tokens")
    return min(LENGTH, longest) if asked is None else asked


def _target(side: _Side, variant: str, name: str) -> Target:
    return Target(name, side.graph(variant), side.encoder.dummy, side.encoder.max_length, side.manifest)


def _calibration(side: _Side) -> tuple[str, ...]:
    return side.manifest.provenance.calibration


def _finite(answers: Answers) -> tuple[Answers, Any]:
    """The answers with zeros for what is no finite number, and which rows, `(rows,)`, had such."""
    broken = np.zeros(len(answers.hashes), dtype=bool)
    outputs = {}
    for name, array in answers.outputs.items():
        broken |= ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
        outputs[name] = np.where(np.isfinite(array), array, 0).astype(array.dtype)
    return Answers(answers.hashes, answers.targets, outputs), broken
