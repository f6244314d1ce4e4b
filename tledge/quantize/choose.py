"""Which variant ships: the fastest one within the budget, with a reason for every other. Pure.

Before that, a scheme with a choice has one of its candidates become the variant, by the same rule.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tledge.artifacts import Candidate, LatencyRatio, Variant
from tledge.errors import QuantizeError

FASTER = 0.98
"""Below this share of fp32's time a variant counts as faster: two sessions of one and the same graph differ by up to
two percent, which no number of runs in them shows (`tledge.bench.compare`)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a variant may cost; `None` is no limit. Sizes are in MB of 10^6 bytes.

    Where `lower_is_better`, as of a loss, it is a rise of the metric that `max_metric_drop` bounds.
    """

    metric: str
    max_metric_drop: float
    latency_ms: float | None = None
    size_mb: float | None = None
    lower_is_better: bool = False


def choose(variants: Sequence[Variant], limits: Limits) -> tuple[Variant, ...]:
    """The same variants, with `chosen` and `reason` filled in.

    The first variant is fp32, the reference. Another one is eligible when its metric on the validation rows dropped by
    at most `max_metric_drop`, it keeps the limits of latency and size, and it is faster than fp32: the whole 95 %
    interval of the paired ratio lies below `FASTER`. The eligible one with the smallest ratio is chosen, and fp32 where
    none is and fp32 itself keeps the limits.

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
        dataclasses.replace(v, chosen=v is best, reason=_reason(v, best, fp32, losses[v.name], limits))
        for v in variants
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


def metric_drop(fp32: Mapping[str, float], metrics: Mapping[str, float], limits: Limits) -> float:
    """How much worse the metric is than fp32's; infinite where there is no number."""
    drop = fp32[limits.metric] - metrics[limits.metric]
    if math.isnan(drop):
        return math.inf
    return -drop if limits.lower_is_better else drop


def _too_much(drop: float, limits: Limits) -> str:
    verb = "rises" if limits.lower_is_better else "drops"
    return f"{limits.metric} {verb} by {drop:.4f}, more than the {limits.max_metric_drop:g} allowed"


def pick(candidates: Sequence[Candidate], fp32: Mapping[str, float], limits: Limits) -> tuple[Candidate, ...]:
    """The same candidates of one scheme, with `picked` and `reason` filled in; those with a reason are out already.

    Picked is the fastest one whose metric dropped by at most `max_metric_drop`, and among those whose time cannot be
    told from its (the intervals meet) the most accurate one. Where none keeps the budget it is the most accurate one
    of all, so that it can be reported and refused. Of equals the first one is picked.

    Args:
        candidates: at least one of them is without a reason; those have metrics.
        fp32: the metrics of fp32 on the same rows.
        limits: the budget.
    """
    drops = {i: metric_drop(fp32, c.metrics, limits) for i, c in enumerate(candidates) if not c.reason}
    within = [i for i, drop in drops.items() if drop <= limits.max_metric_drop + 1e-12]
    ratios = {i: ratio for i in within if (ratio := candidates[i].ratio) is not None}
    equal = within
    if ratios:
        best = min(ratios.values(), key=lambda ratio: ratio.ratio)
        equal = [i for i, ratio in ratios.items() if ratio.low <= best.high]
    picked = min(equal or drops, key=lambda i: drops[i])
    result = []
    for i, candidate in enumerate(candidates):
        reason = candidate.reason
        if i in drops and i not in within:
            reason = _too_much(drops[i], limits)
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
    reasons = []
    size_mb = variant.graph.size_bytes / 1e6
    if limits.size_mb is not None and size_mb > limits.size_mb:
        reasons.append(f"{size_mb:.1f} MB is over the budget of {limits.size_mb:g} MB")
    if limits.latency_ms is not None and variant.latency_ms is not None and variant.latency_ms > limits.latency_ms:
        reasons.append(f"{variant.latency_ms:.2f} ms is over the budget of {limits.latency_ms:g} ms")
    if variant is not fp32:
        drop = metric_drop(fp32.metrics, variant.metrics, limits)
        if drop > limits.max_metric_drop + 1e-12:
            reasons.append(_too_much(drop, limits))
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


def _reason(variant: Variant, best: Variant, fp32: Variant, loss: str, limits: Limits) -> str:
    if variant is best:
        if variant is fp32:
            return "no other variant is faster within the budget"
        change = variant.metrics[limits.metric] - fp32.metrics[limits.metric]
        ratio = variant.against_fp32
        assert ratio is not None
        return (
            f"fastest within the budget: {_times(ratio.ratio, ratio.low, ratio.high)} of fp32's time, "
            f"{limits.metric} {change:+.4f}"
        )
    return loss or f"within the budget, but {best.name} is faster"


def _times(ratio: float, low: float, high: float) -> str:
    return f"{ratio:.2f} (95 % interval {low:.2f} to {high:.2f})"
