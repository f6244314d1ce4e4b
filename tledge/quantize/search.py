"""Which of a scheme's candidates becomes its variant: what is fast is found first, then what is accurate."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tledge.artifacts import Candidate, LatencyRatio, MetricDrop
from tledge.errors import QuantizeError, StorageError
from tledge.progress import Progress
from tledge.quantize.choose import Limits, keeps, pick, slower
from tledge.significance import ROUNDING


class Scored(Protocol):
    """What is looked at of an evaluation: metrics, the task's records, and where it decides as another one does."""

    @property
    def metrics(self) -> dict[str, float]: ...
    @property
    def records(self) -> dict[str, npt.NDArray[Any]]: ...
    def agree(self, other: Any) -> npt.NDArray[np.bool_] | None: ...


Score = Callable[[Path, str], Scored]
"""A graph's file and a name to show, to its evaluation on the validation rows."""
Compare = Callable[[Scored, Scored], MetricDrop]
"""A variant's evaluation and fp32's, of the same rows, to how much worse its metric is."""
Time = Callable[[Mapping[str, Path]], Mapping[str, tuple[float, LatencyRatio | None]]]
"""Files by name to median milliseconds and the paired ratio to the one named `fp32`."""
Calibration = Callable[[], Iterator[Mapping[str, npt.NDArray[Any]]]]
"""Gives the calibration rows anew, one at a time, each as the graph's input tensors."""
Choice = Mapping[str, str | int]
"""One candidate: keywords of a scheme's `apply`."""


_FAILED = "cannot be made"
_NOT_TRIED = "not tried"


@dataclass(slots=True)
class _Tried:
    """What is known of one candidate so far; it is out when it has a reason."""

    choice: Choice
    path: Path
    made: bool = False
    evaluation: Scored | None = None
    drop: MetricDrop | None = None
    ratio: LatencyRatio | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        return " ".join(str(value) for value in self.choice.values())

    @property
    def was_seen(self) -> bool:
        """Whether it was made, or could not be."""
        return self.made or self.reason.startswith(_FAILED)


def search(
    scheme: str,
    module: ModuleType,
    source: Path,
    target: Path,
    choices: Sequence[Choice],
    *,
    fixed: Mapping[str, str],
    calibration: Calibration,
    fp32: Scored,
    score: Score,
    compare: Compare,
    time: Time,
    limits: Limits,
    progress: Progress,
) -> tuple[Scored, tuple[Candidate, ...]]:
    """Write the best candidate of a scheme to `target`; gives its evaluation, and what was tried, with reasons.

    All candidates are made with the keywords in `fixed` too.

    The first candidate of each `types` is timed beside fp32, since these decide about speed. Of those that are not
    clearly slower than the fastest, candidates are then scored on the validation rows in their order. That ends at the
    first one that loses at most half of what the budget allows: the more candidates are compared on the same rows, the
    more the best one's figure flatters it, and what stands later in the order keeps more in float and so is hardly
    faster. Where several keep the budget they are timed beside each other, and `pick` decides. Where every kind of
    types is slower than fp32, the fastest of them is the variant, to be refused with its figure.

    Raises:
        QuantizeError: no candidate can be made of this graph.
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{scheme}-") as folder:
        scratch = Path(folder)
        tried = [_Tried(choice, scratch / f"candidate_{i}.onnx") for i, choice in enumerate(choices)]

        def make(each: _Tried) -> bool:
            if not each.made and not each.reason:
                with progress(f"Quantizing to {each.name}", total=1) as advance:
                    _make(module, source, each, scratch, calibration, fixed)
                    advance(1)
            return each.made

        _look_at_speed(tried, make, source, time)
        if not any(each.made for each in tried):
            raise QuantizeError(
                f"quantize: scheme {scheme} fails on this graph: {tried[0].reason}; remove it from quantize.schemes"
            )
        _look_at_accuracy(tried, make, lambda each: compare(each, fp32), score, limits)
        within = {each.name: each for each in tried if each.drop is not None and keeps(each.drop, limits)}
        if len(within) > 1:
            timed = time({"fp32": source} | {name: each.path for name, each in within.items()})
            for name, each in within.items():
                each.ratio = timed[name][1]
        candidates = pick(
            [_candidate(scheme, each) for each in tried], [each.drop for each in tried], fp32.metrics, limits
        )
        best = next(each for each, candidate in zip(tried, candidates, strict=True) if candidate.picked)
        assert best.evaluation is not None
        os.replace(best.path, target)
        seen = (candidate for each, candidate in zip(tried, candidates, strict=True) if each.was_seen)
        return best.evaluation, tuple(seen)


def _make(
    module: ModuleType,
    source: Path,
    each: _Tried,
    scratch: Path,
    calibration: Calibration,
    fixed: Mapping[str, str],
) -> None:
    try:
        module.apply(source, each.path, calibration=calibration, scratch=scratch, **each.choice, **fixed)
        each.made = True
    except Exception as error:  # the quantizers raise whatever their parts raise
        if (full := StorageError.of(error)) is not None:
            raise full from error
        each.reason = f"{_FAILED}: {told(error)}"


def told(error: Exception) -> str:
    """The kind of an error and its first line."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"


def _look_at_speed(tried: Sequence[_Tried], make: Callable[[_Tried], bool], source: Path, time: Time) -> None:
    """Time the first of each types that can be made, and put out all of those types that are too slow."""
    firsts: dict[Any, _Tried] = {}
    for each in tried:
        types = each.choice.get("types")
        if types not in firsts and make(each):
            firsts[types] = each
    if not firsts:
        return
    timed = time({"fp32": source} | {each.name: each.path for each in firsts.values()})
    ratios = {}
    for each in firsts.values():
        each.ratio = timed[each.name][1]
        assert each.ratio is not None
        ratios[each.name] = each.ratio
    reasons = slower(ratios)
    hopeless = all(ratio.low > 1 for ratio in ratios.values())
    for each in tried:
        first = firsts.get(each.choice.get("types"))
        if first is None or each.reason:
            continue
        each.reason = reasons[first.name] or (_NOT_TRIED if hopeless and each is not first else "")


def _look_at_accuracy(
    tried: Sequence[_Tried],
    make: Callable[[_Tried], bool],
    compare: Callable[[Scored], MetricDrop],
    score: Score,
    limits: Limits,
) -> None:
    """Score candidates in their order until one is good enough."""
    enough = False
    for each in tried:
        if each.reason:
            continue
        if enough:
            each.reason = _NOT_TRIED
        elif make(each):
            each.evaluation = score(each.path, each.name)
            each.drop = compare(each.evaluation)
            enough = each.drop.drop <= limits.max_metric_drop / 2 + ROUNDING


def _candidate(scheme: str, each: _Tried) -> Candidate:
    metrics = {} if each.evaluation is None else each.evaluation.metrics
    return Candidate(scheme, dict(each.choice), metrics, each.ratio, each.reason)
