"""The geometry of a plot of contenders: for each a strip with the metric of every seed, their mean and its interval.

Units and theme are those of `charts`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tledge.artifacts import Contender
from tledge.report import adaptation
from tledge.report import format as fmt
from tledge.report.charts import WIDTH, Scale, Tick
from tledge.report.facts import Facts
from tledge.report.labels import Frame
from tledge.report.summary import unit

_LEFT, _RIGHT, _TOP = 16, WIDTH - 16, 6
_STRIP, _BELOW = 50, 40
_LINE = 34
"""How far below a strip's top its dots lie; the name stands above them."""


@dataclass(frozen=True, slots=True)
class Strip:
    """One contender: its name, the height of the name and of the dots, and where these, their mean and interval lie."""

    name: str
    name_y: float
    y: float
    dots: tuple[float, ...]
    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Strips:
    """Contenders below each other; `reference` is the teacher's place on the axis, where it is there."""

    title: str
    description: str
    frame: Frame
    height: int
    x_ticks: tuple[Tick, ...]
    strips: tuple[Strip, ...]
    reference: float | None


def contenders(facts: Facts) -> Strips | None:
    """Teacher and students in the metric; `None` where fewer than two of them have it."""
    found = facts.distillation.contenders if facts.distillation else ()
    return _strips(facts, found, "teacher", f"test {unit(facts)}")


def adapted(facts: Facts) -> Strips | None:
    """The methods of an adaptation in the metric; `None` where fewer than two of them were judged."""
    rows = facts.adaptation.rows if facts.adaptation else ()
    found = [replace(row.contender, name=adaptation.name_of(row)) for row in rows if row.contender]
    return _strips(facts, found, adaptation.NAMES["none"], "rows that judge")


def _strips(facts: Facts, contenders: Sequence[Contender], reference: str, on: str) -> Strips | None:
    found = [each for each in contenders if _known(each, facts)]
    if len(found) < 2:
        return None
    metric = facts.metric
    every = [value for each in found for value in _every(each, metric)]
    margin = (max(every) - min(every)) * 0.06 or 0.01
    scale = Scale(min(every) - margin, max(every) + margin, _LEFT, _RIGHT)
    bottom = _TOP + _STRIP * len(found)
    beside = next((each for each in found if each.name == reference), None)
    name = fmt.metric_name(metric)
    return Strips(
        title=f"{fmt.capital(name)} on {on}, a dot for each seed",
        description="; ".join(f"{each.name}: {name} {_told(each, metric)}" for each in found),
        frame=Frame(_LEFT, _RIGHT, _TOP, bottom),
        height=bottom + _BELOW,
        x_ticks=scale.ticks(6),
        strips=tuple(_strip(each, metric, scale, _TOP + i * _STRIP) for i, each in enumerate(found)),
        reference=None if beside is None else scale(beside.mean[metric]),
    )


def _strip(each: Contender, metric: str, scale: Scale, top: float) -> Strip:
    bounded = metric in each.low and metric in each.high
    return Strip(
        each.name,
        top + 18,
        top + _LINE,
        tuple(scale(found[metric]) for found in each.metrics if metric in found),
        scale(each.mean[metric]),
        (scale(each.low[metric]), scale(each.high[metric])) if bounded else None,
    )


def _known(each: Contender, facts: Facts) -> bool:
    return facts.metric in each.mean and all(map(math.isfinite, _every(each, facts.metric)))


def _every(each: Contender, metric: str) -> list[float]:
    """Everything that is drawn of a contender."""
    bounds = [bound[metric] for bound in (each.low, each.high) if metric in bound]
    return [each.mean[metric], *bounds, *(found[metric] for found in each.metrics if metric in found)]


def _told(each: Contender, metric: str) -> str:
    mean = fmt.score(metric, each.mean[metric])
    if metric not in each.low or metric not in each.high:
        return mean
    return f"{mean} (95 % interval {fmt.score(metric, each.low[metric])} to {fmt.score(metric, each.high[metric])})"
