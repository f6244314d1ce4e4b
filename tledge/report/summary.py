"""What facts amount to: the verdict, the key figures, and the warnings that follow from them."""

from __future__ import annotations

import itertools
import math
import operator
from dataclasses import dataclass

from tledge.artifacts import Footprint, Latency, LatencyRatio, Variant
from tledge.report import adaptation, distillation, language, processors
from tledge.report import format as fmt
from tledge.report.facts import Facts, MarkedText
from tledge.report.figure import Figure
from tledge.significance import wilson

_SHARES = frozenset({"accuracy", "exact_match"})
"""Metrics that are a share of rows, so that the Wilson interval holds for them."""
"""The normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True, slots=True)
class Quality:
    """The metric of one variant on one split; `low` and `high` bound its 95 % interval, `None` where there is none."""

    value: float
    split: str
    rows: int | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Gain:
    """How much more of the metric the pretrained weights gave than random ones; `low` and `high` as in `Quality`."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def sure(self) -> bool:
        """Whether there is a gain that chance does not explain, as far as an interval can tell."""
        return self.value > 0 and (self.low is None or self.low > 0)


@dataclass(frozen=True, slots=True)
class Confusion:
    """How many of the `rows` test rows of a label got another one."""

    truth: str
    predicted: str
    count: int
    rows: int


def newcombe(share: float, rows: int, other: float, other_rows: int) -> tuple[float, float]:
    """The 95 % interval of the difference of two shares (Newcombe 1998, method 10).

    It takes the two for independent; of the same rows they are not, and the interval is then wider than it need be.
    """
    (low, high), (other_low, other_high) = wilson(share, rows), wilson(other, other_rows)
    difference = share - other
    return (
        difference - math.hypot(share - low, other_high - other),
        difference + math.hypot(high - share, other - other_low),
    )


def chosen(facts: Facts) -> Variant | None:
    """The variant that ships."""
    return next((variant for variant in facts.variants if variant.chosen), None)


def quality(facts: Facts, variant: Variant) -> Quality | None:
    """The variant's metric on the test rows, or on the validation rows where there is none of the test."""
    for split, metrics in (("test", variant.test_metrics), ("validation", variant.metrics)):
        if facts.metric in metrics:
            value = metrics[facts.metric]
            rows = None if facts.language else facts.data.rows.get(split)  # a language model's rows are blocks
            if rows and facts.metric in _SHARES and 0 <= value <= 1:
                return Quality(value, split, rows, *wilson(value, rows))
            if split == "test" and variant.chosen and facts.bounds is not None:
                return Quality(value, split, rows, *facts.bounds)
            return Quality(value, split, rows)
    return None


def unit(facts: Facts) -> str:
    """What is counted in a split, in words."""
    return "tokens" if facts.language else "rows"


def baseline(facts: Facts) -> float | None:
    """The metric of always giving the most frequent answer of the training rows, or their mean."""
    return facts.baseline.get(facts.metric)


def baseline_name(facts: Facts) -> str:
    """What is always answered for `baseline`, in words."""
    return facts.always


def gain(facts: Facts) -> Gain | None:
    """What the pretrained weights gave on the test rows; `None` where no random backbone was trained."""
    found = facts.transfer
    if found is None or facts.metric not in found.pretrained or facts.metric not in found.random:
        return None
    ours, theirs = found.pretrained[facts.metric], found.random[facts.metric]
    low, high, rows = found.low, found.high, facts.data.rows.get("test")
    if low is None and rows and facts.metric in _SHARES:
        low, high = newcombe(ours, rows, theirs, rows)
    return Gain(ours - theirs, low, high)


def test_metrics(facts: Facts) -> tuple[tuple[str, str], ...]:
    """Every metric of the chosen variant on the test rows, as names and values; the one that picked it first."""
    variant = chosen(facts)
    found = variant.test_metrics if variant else {}
    names = sorted(found, key=lambda name: name != facts.metric)
    return tuple((fmt.metric_name(name), fmt.score(name, found[name])) for name in names)


def latency(facts: Facts, name: str) -> Latency | None:
    """The candidate's latency at the first setting of the benchmark."""
    rows = facts.bench.latencies if facts.bench else ()
    return next((row for row in rows if row.candidate == name), None)


def footprint(facts: Facts, name: str) -> Footprint | None:
    """What the candidate costs beside its latency."""
    footprints = facts.bench.footprints if facts.bench else ()
    return next((each for each in footprints if each.candidate == name), None)


def speed(facts: Facts, variant: Variant) -> LatencyRatio | None:
    """The variant against the benchmark's reference, else against fp32."""
    row = language.generation(facts, variant.name) if facts.writes else latency(facts, variant.name)
    for ratio in (row.against if row else None, variant.against_fp32):
        if ratio is not None and ratio.reference != variant.name:
            return ratio
    return None


def verdict(facts: Facts) -> str:
    """One sentence: what ships, how good, how fast and how large it is."""
    variant = chosen(facts)
    if variant is None:
        return "No variant ships: none was chosen."
    parts = language.headline(facts, variant) if facts.language else [_headline(facts, variant)]
    ratio = speed(facts, variant)
    if ratio is not None:
        parts.append(f"{fmt.times(ratio)} as {fmt.reference(ratio.reference)}")
    parts.append(fmt.size(variant.graph.size_bytes))
    poor = no_better(facts)
    return f"{variant.name} ships{f' but is {poor}' if poor else ''}: {', '.join(parts)}."


def no_better(facts: Facts) -> str:
    """That the model is no better than what needs none, in words; empty where it is better, or nothing is known."""
    variant, least = chosen(facts), baseline(facts)
    got = quality(facts, variant) if variant else None
    if got is None or got.split != "test" or least is None:
        return ""
    bound = got.high if facts.lower_is_better else got.low
    better = operator.lt if facts.lower_is_better else operator.gt
    if better(got.value if bound is None else bound, least):
        return ""
    clearly = "clearly " if better(got.value, least) else ""
    return f"not {clearly}better than always answering the {baseline_name(facts)} ({fmt.metric(least)})"


def key_figures(facts: Facts) -> tuple[Figure, ...]:
    """The figures on top of a report, the most asked for first."""
    variant = chosen(facts)
    if variant is None:
        return ()
    own = (
        language.figures(facts, variant, () if facts.writes else (_latency_figure(facts, variant),))
        if facts.language
        else (_quality_figure(facts, variant), _second_figure(facts, variant), _latency_figure(facts, variant))
    )
    found = (
        *own,
        _speed_figure(facts, variant),
        _size_figure(facts, variant),
        _agreement_figure(facts, variant),
        _parity_figure(facts),
        _memory_figure(facts, variant),
    )
    return tuple(figure for figure in found if figure is not None)


def warnings(facts: Facts) -> tuple[str, ...]:
    """The facts' own warnings, those of the benchmark, and what else the figures call for."""
    found = [*facts.warnings, *processors.warnings(facts)]
    variant = chosen(facts)
    got = quality(facts, variant) if variant else None
    if got is not None and got.split != "test":
        what = unit(facts)
        found.append(f"There is no figure of test {what}: the validation {what} also picked the epoch and the variant.")
    poor = no_better(facts)
    if poor:
        found.append(f"The {fmt.metric_name(facts.metric)} is {poor}.")
    gained = gain(facts)
    if gained is not None and not gained.sure:
        found.append("The pretrained weights are not clearly better than random ones on these rows.")
    if facts.distillation is not None and not distillation.helped(facts):
        found.append(distillation.gain_sentence(facts, facts.distillation))
    found.extend(adaptation.warnings(facts))
    failed = sum(not case.passed for case in facts.parity)
    if failed:
        found.append(f"{failed} of {len(facts.parity)} parity cases failed: the graph differs from torch.")
    found.extend(facts.bench.notes if facts.bench else ())
    return tuple(dict.fromkeys(found))


def residuals(facts: Facts) -> tuple[tuple[str, str], ...]:
    """Shares of the test rows, and what estimate minus truth is at or below for them."""
    found = facts.regression.residuals if facts.regression else {}
    return tuple((f"{share} %", fmt.quantity(value)) for share, value in found.items())


def targets(facts: Facts) -> tuple[tuple[str, str], ...]:
    """The range of the numbers that a regression learns, by split."""
    return tuple((split, fmt.spread(found)) for split, found in facts.data.target_quantiles.items())


def confusions(facts: Facts, limit: int) -> tuple[Confusion, ...]:
    """The pairs of labels that are most often taken for each other, the most frequent first."""
    pairs = [
        Confusion(facts.labels[i], facts.labels[j], number, sum(row))
        for i, row in enumerate(facts.confusion)
        for j, number in enumerate(row)
        if i != j and number
    ]
    return tuple(sorted(pairs, key=lambda pair: (-pair.count, -pair.count / pair.rows))[:limit])


def _headline(facts: Facts, variant: Variant) -> str:
    found, metric = quality(facts, variant), fmt.metric_name(facts.metric)
    if found is None:
        return f"{metric} {fmt.NOT_MEASURED}"
    where = f"{fmt.rows(found.rows).replace(' ', f' {found.split} ')}" if found.rows else f"{found.split} rows"
    return f"{fmt.metric(found.value)} {metric} on {where}"


def _quality_figure(facts: Facts, variant: Variant) -> Figure:
    found = quality(facts, variant)
    name = fmt.metric_name(facts.metric)
    if found is None:
        return Figure(fmt.capital(name), fmt.NOT_MEASURED)
    details = []
    rows = fmt.rows(found.rows) if found.rows else "rows not counted"
    if found.low is not None and found.high is not None:
        details.append(f"95 % interval {fmt.metric(found.low)} to {fmt.metric(found.high)}")
    details.append(rows)
    least = baseline(facts)
    if least is not None and found.split == "test":
        details.append(f"{baseline_name(facts)} alone: {fmt.metric(least)}")
    if facts.transfer is not None and facts.metric in facts.transfer.random and found.split == "test":
        details.append(f"random backbone: {fmt.metric(facts.transfer.random[facts.metric])}")
    return Figure(fmt.capital(f"{found.split} {name}"), fmt.metric(found.value), tuple(details))


def _second_figure(facts: Facts, variant: Variant) -> Figure | None:
    """Beside the metric that picked: the mean absolute error of estimates, the ROC AUC of two labels."""
    name = "mae" if facts.numeric else "roc_auc" if len(facts.labels) == 2 else ""
    if name not in variant.test_metrics or name == facts.metric:
        return None
    details = (
        [f"{baseline_name(facts)} alone: {fmt.score(name, facts.baseline[name])}"] if name in facts.baseline else []
    )
    if facts.transfer is not None and name in facts.transfer.random:
        details.append(f"random backbone: {fmt.score(name, facts.transfer.random[name])}")
    title = f"test {fmt.metric_name(name)}"
    return Figure(fmt.capital(title), fmt.score(name, variant.test_metrics[name]), tuple(details))


def _latency_figure(facts: Facts, variant: Variant) -> Figure:
    row = latency(facts, variant.name)
    if row is not None and "p50" in row.percentiles_ms:
        at = fmt.setting(row.batch, row.sequence, row.threads, provider=facts.bench.provider if facts.bench else "cpu")
        return Figure("Median latency", f"{fmt.milliseconds(row.percentiles_ms['p50'])} ms", (at,))
    if variant.latency_ms is not None:
        details = (variant.latency_at,) if variant.latency_at else ()
        return Figure("Median latency", f"{fmt.milliseconds(variant.latency_ms)} ms", details)
    return Figure("Median latency", fmt.NOT_MEASURED)


def _speed_figure(facts: Facts, variant: Variant) -> Figure | None:
    ratio = speed(facts, variant)
    if ratio is None:
        return None
    interval = f"95 % interval {fmt.times_interval(ratio)}, {fmt.count(ratio.samples)} pairs"
    return Figure(f"Against {fmt.reference(ratio.reference)}", fmt.times(ratio), (interval,))


def _size_figure(facts: Facts, variant: Variant) -> Figure:
    others = [f"{v.name}: {fmt.size(v.graph.size_bytes)}" for v in facts.variants if v.scheme == "fp32"]
    return Figure("Size", fmt.size(variant.graph.size_bytes), () if variant.scheme == "fp32" else tuple(others))


def _agreement_figure(facts: Facts, variant: Variant) -> Figure | None:
    if variant.agreement is None or variant.scheme == "fp32":
        return None
    rows = None if facts.language else facts.data.rows.get("validation")
    return Figure(
        "Same token as fp32"
        if facts.hidden
        else "Same next token as fp32"
        if facts.language
        else "Same answer as fp32",
        fmt.metric(variant.agreement),
        (f"of {fmt.count(rows)} validation rows",) if rows else (),
    )


def _parity_figure(facts: Facts) -> Figure:
    if not facts.parity:
        return Figure("Parity with torch", fmt.NOT_MEASURED)
    passed = sum(case.passed for case in facts.parity)
    worst = max(case.max_abs_diff for case in facts.parity)
    return Figure(
        "Parity with torch",
        f"{passed} of {len(facts.parity)} cases",
        (f"fp32 graph, largest difference {fmt.difference(worst)}",),
    )


def _memory_figure(facts: Facts, variant: Variant) -> Figure | None:
    found = footprint(facts, variant.name)
    if found is None:
        return None
    before = f"{fmt.megabytes(found.base_memory_mb)} before loading"
    return Figure("Peak memory", fmt.megabytes(found.peak_memory_mb), (before,))


def time_parts(facts: Facts) -> list[str]:
    """Where the time of training went, the longest part first, as shares of one percent and more."""
    names = {"data": "waiting for data", "captured": "passes as CUDA graphs"}
    total = sum(facts.training.time.values())
    parts = sorted(facts.training.time.items(), key=lambda part: -part[1])
    return [f"{names.get(part, part)} {seconds / total:.0%}" for part, seconds in parts if seconds >= 0.01 * total > 0]


def marked(facts: Facts) -> list[tuple[str, str, str]]:
    """Each text with marks, what was missed in it, and what was found."""

    def listed(text: MarkedText, *kinds: str) -> str:
        runs = itertools.groupby(text.parts, lambda part: (part.label, not {*kinds}.isdisjoint(part.kind.split())))
        found = [
            [f"{part.text} ({part.label})" for part in parts] if label else ["".join(part.text for part in parts)]
            for (label, is_listed), parts in runs
            if is_listed
        ]
        return ", ".join(itertools.chain(*found)) or "-"

    return [(text.above or text.text, listed(text, "missed"), listed(text, "right", "wrong")) for text in facts.marked]
