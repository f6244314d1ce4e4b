"""The metric of a variant on labelled rows, alone and beside what it is compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tledge import answers, significance, tasks
from tledge.answers import Answers
from tledge.evaluate import joined, score
from tledge.gate.measurements import Quality
from tledge.gate.rows import Rows
from tledge.gate.side import Side
from tledge.progress import Progress, silent
from tledge.runtime.session import open_session, session_run
from tledge.tasks import Task

T = TypeVar("T")

_FP32 = "fp32"
_NO_ROWS = "there are no labelled rows: give --rows FILE, evaluation.rows in the budget"
_NO_BLOCKS = "there is nothing that a language model was scored on: give"


@dataclass
class Scoring:
    """Scores variants of the new and the old bundle, each once; `rows` are those of a file, if there is one."""

    new: Side
    old: Side | None
    task: Task
    metric: str
    rows: Rows | None
    progress: Progress = silent
    done: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def quality(
        self, variant: str, provider: str, missing: dict[str, str], *, asked: str | None, with_pair: bool
    ) -> Quality | None:
        """The metric of a variant, and if asked for that of what it is compared with; `None` if nothing is known.

        Args:
            variant: The variant.
            provider: Where it runs.
            missing: Gets, by limit, what is missing and what to give.
            asked: The variant's name in the budget, which is then that of the old bundle's variant too.
            with_pair: Whether a comparison is asked for.
        """
        ours = self._answers(self.new, variant, provider)
        if ours is None:
            wanted = _NO_BLOCKS if self._of_language else f"{_NO_ROWS}, or"
            missing["max_metric_drop"] = f"{wanted} run folders that have quantize/{answers.FILE}"
            return self._stored_quality(variant, missing)
        source = self.rows.name if self.rows is not None else "the run's test split"
        found = self._once(("alone", variant, provider), lambda: self._alone(ours, source))
        pairs_with = self._reference(asked, variant, missing) if with_pair else None
        if pairs_with is None:
            return found
        side, other = pairs_with
        theirs = self._answers(side, other, provider)
        if theirs is None:
            instead = "a run folder that has them" if self._of_language else "--rows FILE"
            missing["max_metric_drop"] = f"{side.path} has no stored answers of {other}; give {instead}"
            return found
        name = other if side is self.new else f"{other} of {side.title}"
        key = ("pair", variant, str(side.folder), other, provider)
        found, reason = self._once(key, lambda: self._with_pair(found, ours, theirs, side, name))
        if reason:
            missing["max_metric_drop"] = reason
        return found

    @property
    def _lower_is_better(self) -> bool:
        return tasks.lower_is_better(self.task, self.metric)

    @property
    def _unit(self) -> str:
        return "blocks" if self._of_language else "rows"

    @property
    def _of_language(self) -> bool:
        """Whether rows are the blocks of tokens of a language model, which only a run has."""
        return self.new.manifest.generation is not None

    def _reference(self, asked: str | None, variant: str, missing: dict[str, str]) -> tuple[Side, str] | None:
        """What a metric is compared with: the old bundle's variant, or without one the same bundle's fp32."""
        if self.old is not None:
            return self.old, self.old.variant(asked)
        if variant != _FP32 and any(each.name == _FP32 for each in self.new.manifest.variants):
            return self.new, _FP32
        missing["max_metric_drop"] = (
            f"there is nothing to compare the {self.metric} of {variant} with; give --against OLD"
        )
        return None

    def _answers(self, side: Side, variant: str, provider: str) -> Answers | None:
        """What a variant gives for the evaluation rows: run here for those of a file, else as the run stored it."""
        if self.rows is not None:
            rows = self.rows
            return self._once(
                ("answers", str(side.folder), variant, provider), lambda: self._run(side, variant, provider, rows)
            )
        if side.variants is None or provider != "cpu":
            return None
        graph = side.manifest.files[side.manifest.variant(variant).graph.path]
        return answers.read(side.variants, variant, graph=graph)

    def _run(self, side: Side, variant: str, provider: str, rows: Rows) -> Answers:
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
        return Answers(rows.hashes, targets, evaluation.records)

    def _alone(self, ours: Answers, source: str) -> Quality:
        finite, broken = _finite(ours)
        low, high = significance.interval(self.task, self.metric, finite.records, finite.targets)
        calibrated = {
            int(digits, 16) for side in (self.new, self.old) if side for digits in side.manifest.provenance.calibration
        }
        return Quality(
            metric=self.metric,
            value=significance.value(self.task, self.metric, finite.records, finite.targets),
            rows=len(ours.hashes),
            source=source,
            lower_is_better=self._lower_is_better,
            unit=self._unit,
            low=low,
            high=high,
            calibration_rows=sum(value in calibrated for value in ours.hashes.tolist()),
            non_finite=int(broken.sum()),
        )

    def _with_pair(self, found: Quality, ours: Answers, theirs: Answers, side: Side, name: str) -> tuple[Quality, str]:
        """The paired test added, or why there is none."""
        found = dataclasses.replace(found, other_rows=len(theirs.hashes))
        if self.rows is None:
            if side.manifest.labels != self.new.manifest.labels:
                return found, "the two bundles order their labels differently; give --rows FILE"
            ours, theirs = answers.join(ours, theirs)
            if not len(ours.hashes) and self._of_language:
                return found, "the two runs have no block of test tokens in common: their texts or tokenizers differ"
            if not len(ours.hashes):
                return found, "the two runs have no test row in common; give --rows FILE"
            both = joined([ours.targets, theirs.targets])  # of one width
            same = np.asarray(both[: len(ours.hashes)] == both[len(ours.hashes) :]).reshape(len(ours.hashes), -1)
            found = dataclasses.replace(found, relabelled=int((~same.all(axis=1)).sum()))
        (ours, broken), (theirs, others_broken) = _finite(ours), _finite(theirs)
        pair = significance.paired(
            self.task, self.metric, ours.records, ours.targets, theirs.records, theirs.targets, reference=name
        )
        return dataclasses.replace(found, paired=pair, non_finite=int((broken | others_broken).sum())), ""

    def _stored_quality(self, variant: str, missing: dict[str, str]) -> Quality | None:
        """The metric that was measured when the bundle was made."""
        manifest = self.new.manifest
        metrics = manifest.variant(variant).test_metrics or (manifest.metrics if variant == manifest.chosen else {})
        if self.metric not in metrics:
            reason = f"the bundle has no {self.metric} of {variant} on test rows; give --rows FILE"
            missing.update(dict.fromkeys(("min_metric", "max_metric"), reason))
            return None
        # how many of a language model's blocks were scored is not in its bundle
        count = 0 if self._of_language else manifest.provenance.rows.get("test", 0)
        value = metrics[self.metric]
        is_share = count > 0 and self.metric in significance.SHARES
        low, high = significance.wilson(value, count) if is_share else (None, None)
        source = "the test split, measured when the bundle was made"
        return Quality(
            self.metric, value, count, source, low, high, lower_is_better=self._lower_is_better, unit=self._unit
        )

    def _once(self, key: tuple[str, ...], make: Callable[[], T]) -> T:
        if key not in self.done:
            self.done[key] = make()
        found: T = self.done[key]
        return found


def _finite(stored: Answers) -> tuple[Answers, npt.NDArray[np.bool_]]:
    """The answers with zeros for what is no finite number, and which rows, `(rows,)`, had such."""
    broken = np.zeros(len(stored.hashes), dtype=bool)
    records = {}
    for name, array in stored.records.items():
        broken |= ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
        records[name] = np.where(np.isfinite(array), array, 0).astype(array.dtype)
    return Answers(stored.hashes, stored.targets, records), broken
