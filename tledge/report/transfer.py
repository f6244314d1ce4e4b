"""What transfer gave: the trained model beside a random backbone and beside no model at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tledge.report import format as fmt
from tledge.report import summary
from tledge.report.facts import Facts

SMALL = 0.02
"""A gain below this, without an interval, is called small."""


@dataclass(frozen=True, slots=True)
class Table:
    """Metrics of the test rows by model: `rows` are names with a cell for each of `header`, `sentence` sums up."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    sentence: str


def table(facts: Facts) -> Table | None:
    """All of the task's metrics for the baseline, the random and the pretrained backbone, and what ships.

    `None` where no random backbone was trained.
    """
    found = facts.transfer
    if found is None:
        return None
    names = sorted(found.pretrained, key=lambda name: name != facts.metric)
    variant = summary.chosen(facts)
    models: list[tuple[str, Mapping[str, float]]] = [
        (summary.baseline_name(facts), facts.baseline),
        ("random backbone", found.random),
        ("pretrained backbone", found.pretrained),
    ]
    if variant is not None and variant.scheme != "fp32" and variant.test_metrics:
        models.append((f"{variant.name}, which ships", variant.test_metrics))
    return Table(
        tuple(fmt.metric_name(name) for name in names),
        tuple(
            (title, tuple(fmt.score(name, metrics[name]) if name in metrics else "–" for name in names))
            for title, metrics in models
            if metrics
        ),
        _sentence(facts),
    )


def _sentence(facts: Facts) -> str:
    gain = summary.gain(facts)
    metric = fmt.metric_name(facts.metric)
    if gain is None:
        return ""
    interval = ""
    if gain.low is not None and gain.high is not None:
        interval = f"95 % interval {fmt.gain(gain.low)} to {fmt.gain(gain.high)}"
    change = f"{fmt.gain(gain.value)} {metric}"
    if gain.value <= 0:
        told = f"The pretrained weights gave nothing here: {change} against random ones"
        return f"{told} ({interval})." if interval else f"{told}."
    if not gain.sure:
        return f"The pretrained weights gave {change} over random ones, which chance may explain ({interval})."
    if interval:
        return f"The pretrained weights gave {change} over random ones ({interval})."
    small = "a small gain, and " if gain.value < SMALL else ""
    return f"The pretrained weights gave {change} over random ones: {small}how sure it is was not measured."
