"""What the gate judges: figures of one bundle at each of the budget's scopes, as plain facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tledge.artifacts import BenchResult, Comparison, Footprint, Latency, MetricDrop, Overflow


@dataclass(frozen=True, slots=True)
class Quality:
    """A metric on labelled rows, where they came from, and what else they tell.

    `lower_is_better` is as of a loss; a language model's rows are blocks of tokens, and are called so in `unit`. `low`
    and `high` bound the metric's 95 % interval, `None` where it is not known. `other_rows` are those that the other
    model was scored on, `relabelled` counts rows with the same input but other labels for it, `calibration_rows` those
    that were calibrated with, and `non_finite` those with an output that is no finite number.
    """

    metric: str
    value: float
    rows: int
    source: str
    low: float | None = None
    high: float | None = None
    paired: MetricDrop | None = None
    other_rows: int | None = None
    relabelled: int = 0
    calibration_rows: int = 0
    non_finite: int = 0
    lower_is_better: bool = False
    unit: str = "rows"


@dataclass(frozen=True, slots=True)
class Parity:
    """How far golden outputs here are from torch's: the largest difference, and as a share of the largest output."""

    max_abs_diff: float
    error: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured at one scope of the budget.

    `provider_name` is the runtime's own name of `provider`; `sequence` is `None` for inputs without a length.
    `overflow` is what was found in the graph's file. `missing` maps a limit that could not be measured to what is
    missing and what to give.
    """

    variant: str
    provider: str
    provider_name: str
    batch: int
    sequence: int | None
    threads: int
    size_mb: float
    latency: Latency | None = None
    footprint: Footprint | None = None
    comparison: Comparison | None = None
    quality: Quality | None = None
    parity: Parity | None = None
    overflow: Overflow = field(default_factory=Overflow)
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measurements:
    """Everything that a verdict rests on; `scopes` are in the order of the budget's.

    `name`, `version`, `against` and `processors` are as in `Verdict`. `strict` tells whether all work on rows had
    to be on the provider.
    """

    name: str
    version: str
    against: str
    bench: BenchResult
    scopes: tuple[Measured, ...]
    strict: bool = False
    created: str = ""
    processors: tuple[str, ...] = ()
