"""Which variant ships: the fastest one within the budget, with a reason for every other. Pure.

Before that, a scheme with a choice has one of its candidates become the variant, by the same rule.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tledge import tasks
from tledge.artifacts import ACCEPT, ANOMALOUS, INCONCLUSIVE, Candidate, LatencyRatio, MetricDrop, Variant
from tledge.errors import QuantizeError
from tledge.significance import ROUNDING, decide, rows_wanted

if TYPE_CHECKING:
    from tledge.recipe import Recipe

FASTER = 0.98
"""Below this share of fp32's time a variant counts as faster: two sessions of one and the same graph differ by up to
two percent, which no number of runs in them shows (`tledge.bench.compare`)."""


SHIP, ESTIMATE, REFUSE = "ship", "estimate", "refuse"
"""What becomes of a variant where the rows cannot tell: `budget.inconclusive`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a variant may cost; `None` is no limit. Sizes are in MB of 10^6 bytes.

    Where `lower_is_better`, as of a loss, it is a rise of the metric that `max_metric_drop` bounds. `inconclusive` says
    what becomes of a variant of which the rows cannot tell whether it keeps that; `unit` is what rows are called.
    """

    metric: str
    max_metric_drop: float
    latency_ms: float | None = None
    size_mb: float | None = None
    lower_is_better: bool = False
    inconclusive: str = ESTIMATE
    unit: str = "rows"


def limits_of(recipe: Recipe) -> Limits:
    """A recipe's budget."""
    task, budget = tasks.load(recipe.task), recipe.budget
    metric = recipe.metric or task.METRIC
    return Limits(
        metric,
        budget.max_metric_drop,
        budget.latency_ms,
        budget.size_mb,
        lower_is_better=tasks.lower_is_better(task, metric),
        inconclusive=budget.inconclusive,
        unit=task.UNIT,
    )


def choose(variants: Sequence[Variant], limits: Limits) -> tuple[Variant, ...]:
    """The same variants, with `chosen` and `reason` filled in.

    The first variant is fp32, the reference. Another one is eligible when its metric on the validation rows keeps
    `max_metric_drop` (`tledge.significance.decide`, the gate's test; where it cannot tell, as `inconclusive` says), it
    keeps the limits of latency and size, and it is faster than fp32: the whole 95 % interval of the paired ratio lies
    below `FASTER`. The eligible one with the smallest ratio is chosen, and fp32 where none is and fp32 itself keeps the
    limits.

    Raises:
        QuantizeError: no variant, fp32 included, keeps the limits.
    """
    fp32 = variants[0]
    losses = {v.name: _why_not(v, fp32, limits) for v in variants}
    eligible = [v for v in variants if not losses[v.name]]
    if not eligible:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in losses.items())
        raise QuantizeError(f"no variant keeps the budget ({reasons}): widen `budget` or train a smaller model")
    best = min(eligible, key=lambda v: v.against_fp32.ratio if v.against_fp32 else 1.0)
    return tuple(
        dataclasses.replace(v, chosen=v is best, reason=_reason(v, best, variants, losses[v.name], limits))
        for v in variants
    )


def advice(variants: Sequence[Variant], limits: Limits) -> tuple[str, ...]:
    """What to try where nothing but fp32 ships, in words; empty where something does, or where nothing was tried.

    Args:
        variants: judged ones, fp32 first.
        limits: the budget they were judged by.
    """
    fp32, *rest = variants
    if not fp32.chosen or not rest:
        return ()
    found = []
    lost = [v.metric_drop for v in rest if v.metric_drop is not None and not keeps(v.metric_drop, limits)]
    verdicts = {decide(drop, limits.max_metric_drop) for drop in lost}
    if INCONCLUSIVE in verdicts:
        wanted = [rows_wanted(drop, limits.max_metric_drop) for drop in lost]
        count = f", about {max(known):,}" if (known := [each for each in wanted if each]) else ""
        found.append(f"more validation {limits.unit}{count}; or ship without proof: budget.inconclusive: ship")
    if verdicts - {INCONCLUSIVE}:
        found.append(
            "another scheme (quantize.schemes), or a wider budget if the loss is bearable: budget.max_metric_drop"
        )
    if any(v.against_fp32 is not None and v.against_fp32.high >= FASTER for v in rest):
        found.append("the device itself, whose processor may be faster at int8: tledge bench RUN --device USER@HOST")
    if any(_over_size_or_latency(v, limits) for v in rest):
        found.append("a smaller model: model.backbone, or a student (tledge distill)")
    return tuple(found)


def over_budget(variant: Variant, limits: Limits) -> str:
    """What to say where a variant loses more than the budget on the test rows, which choose nothing; else empty."""
    drop = variant.test_metric_drop
    if drop is None or drop.drop <= limits.max_metric_drop + ROUNDING:
        return ""
    verb = "rises" if limits.lower_is_better else "drops"
    return (
        f"{variant.name}: on the {drop.rows} test {limits.unit} {limits.metric} {verb} by {drop.drop:.4f} against "
        f"fp32{_evidence(drop)}, more than the {limits.max_metric_drop:g} of the budget"
    )


def slower(ratios: Mapping[str, LatencyRatio]) -> dict[str, str]:
    """Why each of some candidates is too slow to be looked at further; empty for those that are not.

    Those stay whose time cannot be told from the fastest one's: the intervals meet. One that is slower than fp32 does
    not stay, unless all are: then the fastest one does, so that there is something to report.
    """
    best = min(ratios, key=lambda name: ratios[name].ratio)
    reasons = {}
    for name, ratio in ratios.items():
        times = _times(ratio.ratio, ratio.low, ratio.high)
        reasons[name] = ""
        if name != best and ratio.low > 1:
            reasons[name] = f"slower than fp32 here ({times} of its time)"
        elif ratio.low > ratios[best].high:
            reasons[name] = f"slower here than {best} ({times} of fp32's time)"
    return reasons


def keeps(drop: MetricDrop, limits: Limits) -> bool:
    """Whether a drop keeps the budget, as far as is asked for."""
    verdict = decide(drop, limits.max_metric_drop)
    if verdict != INCONCLUSIVE:
        return verdict == ACCEPT
    if limits.inconclusive == ESTIMATE:
        return drop.drop <= limits.max_metric_drop + ROUNDING
    return limits.inconclusive == SHIP


def _too_much(drop: MetricDrop, limits: Limits) -> str:
    """Why a drop does not keep the budget: it is too large, or these rows cannot tell."""
    verb = "rises" if limits.lower_is_better else "drops"
    verdict, allowed = decide(drop, limits.max_metric_drop), f"the {limits.max_metric_drop:g} allowed"
    if verdict == ANOMALOUS:
        return f"{limits.metric} is no finite number"
    change = f"{limits.metric} {verb} by {drop.drop:.4f}" if drop.drop > 0 else f"{limits.metric} is no worse"
    change += _evidence(drop)
    if verdict == INCONCLUSIVE:
        rows = f"{drop.rows} validation {limits.unit}"
        return f"inconclusive: {change}, and {rows} cannot tell whether within {allowed}{_wanted(drop, limits)}"
    return f"{change}, more than {allowed}"


def _finite(drop: float) -> float:
    return drop if math.isfinite(drop) else math.inf


def _evidence(drop: MetricDrop) -> str:
    if drop.low is None or drop.high is None or drop.p_value is None:
        return f" (too few for a test: {drop.rows})"
    return f" (95 % interval {drop.low:.4f} to {drop.high:.4f}, {drop.test} p = {drop.p_value:.2g})"


def _doubt(drop: MetricDrop, limits: Limits) -> str:
    """What to add to the reason of a variant that is kept without proof."""
    if decide(drop, limits.max_metric_drop) == ACCEPT:
        return ""
    return (
        f"; {drop.rows} validation {limits.unit} cannot rule out a loss of more than the {limits.max_metric_drop:g} "
        f"allowed{_evidence(drop)}{_wanted(drop, limits)}"
    )


def _wanted(drop: MetricDrop, limits: Limits) -> str:
    wanted = rows_wanted(drop, limits.max_metric_drop)
    return f"; about {wanted:,} would" if wanted else ""


def pick(
    candidates: Sequence[Candidate], drops: Sequence[MetricDrop | None], fp32: Mapping[str, float], limits: Limits
) -> tuple[Candidate, ...]:
    """The same candidates of one scheme, with `picked` and `reason` filled in; those with a reason are out already.

    Picked is the fastest one whose metric keeps the budget as in `choose`, and among those whose time cannot be
    told from its (the intervals meet) the most accurate one. Where none keeps the budget it is the most accurate one
    of all, so that it can be reported and refused. Of equals the first one is picked.

    Args:
        candidates: at least one of them is without a reason; those have metrics.
        drops: of each candidate against fp32; `None` where it was not scored.
        fp32: the metrics of fp32 on the same rows.
        limits: the budget.
    """
    scored = {i: drop for i, drop in enumerate(drops) if drop is not None and not candidates[i].reason}
    within = [i for i, drop in scored.items() if keeps(drop, limits)]
    ratios = {i: ratio for i in within if (ratio := candidates[i].ratio) is not None}
    equal = within
    if ratios:
        best = min(ratios.values(), key=lambda ratio: ratio.ratio)
        equal = [i for i, ratio in ratios.items() if ratio.low <= best.high]
    picked = min(equal or scored, key=lambda i: _finite(scored[i].drop))
    result = []
    for i, candidate in enumerate(candidates):
        reason = candidate.reason
        if i in scored and i not in within:
            reason = _too_much(scored[i], limits)
            reason += ", but no other loses less" if i == picked else ""
        elif i == picked:
            change = candidate.metrics[limits.metric] - fp32[limits.metric]
            reason = f"fastest within the budget, {limits.metric} {change:+.4f}"
            ratio = candidate.ratio
            reason += ", but slower than fp32 here" if ratio is not None and ratio.low > 1 else ""
        elif i in equal:
            reason = "within the budget and as fast as the picked one, but not more accurate"
        elif i in within:
            reason = "within the budget, but slower than the picked one"
        result.append(dataclasses.replace(candidate, picked=i == picked, reason=reason))
    return tuple(result)


def _why_not(variant: Variant, fp32: Variant, limits: Limits) -> str:
    """Why a variant is not eligible; empty when it is."""
    reasons = _over_size_or_latency(variant, limits)
    if variant is not fp32:
        if variant.metric_drop is None:
            reasons.append(f"{limits.metric} was not compared with fp32's")
        elif not keeps(variant.metric_drop, limits):
            reasons.append(_too_much(variant.metric_drop, limits))
        ratio = variant.against_fp32
        if ratio is not None and ratio.low > 1:
            reasons.append(f"slower than fp32 here ({_times(ratio.ratio, ratio.low, ratio.high)} of its time)")
        elif ratio is None or ratio.high >= FASTER:
            reasons.append(
                "not timed against fp32"
                if ratio is None
                else f"not faster than fp32 here ({_times(ratio.ratio, ratio.low, ratio.high)} of its time)"
            )
    return ", ".join(reasons)


def _over_size_or_latency(variant: Variant, limits: Limits) -> list[str]:
    reasons = []
    size_mb = variant.graph.size_bytes / 1e6
    if limits.size_mb is not None and size_mb > limits.size_mb:
        reasons.append(f"{size_mb:.1f} MB is over the budget of {limits.size_mb:g} MB")
    if limits.latency_ms is not None and variant.latency_ms is not None and variant.latency_ms > limits.latency_ms:
        reasons.append(f"{variant.latency_ms:.2f} ms is over the budget of {limits.latency_ms:g} ms")
    return reasons


def _reason(variant: Variant, best: Variant, variants: Sequence[Variant], loss: str, limits: Limits) -> str:
    fp32 = variants[0]
    if variant is best:
        if variant is fp32:
            return "no other variant is faster within the budget" if len(variants) > 1 else "no other variant was made"
        change = variant.metrics[limits.metric] - fp32.metrics[limits.metric]
        ratio = variant.against_fp32
        assert ratio is not None
        return (
            f"fastest within the budget: {_times(ratio.ratio, ratio.low, ratio.high)} of fp32's time, "
            f"{limits.metric} {change:+.4f}{'' if variant.metric_drop is None else _doubt(variant.metric_drop, limits)}"
        )
    return loss or f"within the budget, but {best.name} is faster"


def _times(ratio: float, low: float, high: float) -> str:
    return f"{ratio:.2f} (95 % interval {low:.2f} to {high:.2f})"
