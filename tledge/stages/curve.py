"""How good a recipe's model is with how many labelled rows: trained on a few of each label, again and again."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tledge import artifacts, tasks
from tledge.artifacts import CurvePoint, LabelCurve, read_json, write_json
from tledge.errors import RecipeError
from tledge.evaluate import Array
from tledge.progress import silent
from tledge.stages.contenders import interval
from tledge.stages.heads import _few_shot, fresh
from tledge.stages.job import Job

if TYPE_CHECKING:
    from tledge.model import Rows

FILE = "curve.json"
STRATEGIES = ("probe", "partial", "full", "probe_then_full", "gradual", "lora", "few_shot")


def require(job: Job) -> None:
    """Nothing, where a recipe's rows can be counted by label and its model is trained.

    Raises:
        RecipeError: they cannot, or it is not.
    """
    recipe = job.recipe
    if not tasks.has_one_label(job.task):
        raise RecipeError(f"task: a curve counts rows by their one label, which {recipe.task} does not have")
    if recipe.finetune.strategy not in STRATEGIES:
        raise RecipeError(
            f"finetune.strategy: {recipe.finetune.strategy} learns from no labelled row, so that there is no curve; "
            f"expected one of {', '.join(STRATEGIES)}"
        )


def measure(job: Job, shots: Sequence[int], seeds: int) -> LabelCurve:
    """The metric of the test rows for each number of rows a label and each seed; what was measured before is kept.

    Each seed draws its rows anew from the training rows, fewer as a part of more. Features of a frozen backbone are
    computed once for all. `curve.json` in the run folder is written after each training.

    Args:
        job: a run whose stage `data` is whole, made without `data.shots`.
        shots: rows of each label, rising.
        seeds: trainings of each.

    Raises:
        DataError: a label has fewer training rows.
    """
    from tledge import data

    splits = data.open_splits(job.stage("data"))
    labels = np.array([row[0] for row in splits.train["label"]], dtype=np.int64)
    drawn = {
        (count, seed): data.draw(labels, count, names=splits.labels, seed=seed, key="--shots")
        for count in shots
        for seed in range(seeds)
    }
    key, path = _key(job, splits.fingerprint), job.folder / FILE
    values = _measured(path, key)
    missing = [each for each in drawn if each not in values]
    if missing:
        work = _Work.of(job, splits, np.unique(np.concatenate([drawn[each] for each in missing])))
        with job.progress("Trainings of the curve", total=len(missing)) as advance:
            for each in missing:
                values[each] = work.value(drawn[each], each[1])
                _write(job, path, key, values, splits)
                advance(1)
        shutil.rmtree(work.folder, ignore_errors=True)
    elif path.exists():
        _write(job, path, key, values, splits)
    return _curve(job, key, {each: values[each] for each in drawn}, splits)


def _key(job: Job, fingerprint: str) -> str:
    """Of all that a value depends on beside its rows."""
    recipe = job.recipe
    parts = [recipe.task, job.metric, recipe.model.model_dump_json(), recipe.finetune.model_dump_json(), fingerprint]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _measured(path: Path, key: str) -> dict[tuple[int, int], float]:
    """What an earlier call measured of the same recipe and rows, by rows a label and seed."""
    if not path.exists():
        return {}
    found = artifacts.from_dict(LabelCurve, read_json(path))
    if found.key != key:
        return {}
    return {
        (point.shots, seed): value
        for point in found.points
        for seed, value in zip(point.seeds, point.values, strict=True)
    }


def _write(job: Job, path: Path, key: str, values: Mapping[tuple[int, int], float], splits: Any) -> None:
    write_json(path, _curve(job, key, values, splits))


def _curve(job: Job, key: str, values: Mapping[tuple[int, int], float], splits: Any) -> LabelCurve:
    points: list[CurvePoint] = []
    sign = -1 if job.lower_is_better else 1
    for count in sorted({each for each, _ in values}):
        seeds = sorted(seed for each, seed in values if each == count)
        found = [values[count, seed] for seed in seeds]
        before = points[-1].shots if points else 0
        gains = [sign * (values[count, seed] - values[before, seed]) for seed in seeds if (before, seed) in values]
        points.append(CurvePoint(count, tuple(seeds), tuple(found), *_bounded(found), *_bounded(gains)))
    counts = splits.report.label_counts["train"]
    return LabelCurve(
        name=job.recipe.name,
        backbone=job.recipe.model.backbone,
        strategy=job.recipe.finetune.strategy,
        metric=job.metric,
        lower_is_better=job.lower_is_better,
        n_labels=len(splits.labels),
        n_test=len(splits.test),
        most=min(counts.values()),
        points=tuple(points),
        key=key,
    )


def _bounded(values: Sequence[float]) -> tuple[Any, Any, Any]:
    """A mean and the ends of its interval, `None` for what so few values do not tell."""
    return tuple(None if math.isnan(each) else each for each in interval(values)) if values else (None, None, None)  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class _Work:
    """What all trainings share: the model before any of them, and where the backbone is frozen the rows' features.

    `train` are the rows that any training draws, of which `numbers` are those among the training rows.
    """

    job: Job
    folder: Path
    classifier: Any
    encoder: Any
    initial: Mapping[str, Any]
    splits: Any
    numbers: npt.NDArray[np.int64]
    train: Rows
    validation: Rows
    test: Rows
    features: tuple[Array, Array, Array] | None

    @classmethod
    def of(cls, job: Job, splits: Any, numbers: npt.NDArray[np.int64]) -> _Work:
        """Load the backbone, and run it over the rows where it stays as it is."""
        folder = job.folder / "work"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        _, classifier, encoder = fresh.begun(job, splits, folder, seed=job.recipe.seed)
        parts = (splits.train.select(numbers), splits.validation, splits.test)
        rows = [fresh.rows_of(job, each, encoder) for each in parts]
        features = None
        if _is_frozen(job):
            cache = fresh.kept_in(job, folder)
            train, validation, test = (_few_shot.features_of(job, classifier, encoder, each, cache) for each in rows)
            features = (train, validation, test)
        initial = {name: each.clone() for name, each in classifier.state_dict().items()}
        return cls(job, folder, classifier, encoder, initial, splits, numbers, rows[0], rows[1], rows[2], features)

    def value(self, drawn: npt.NDArray[np.int64], seed: int) -> float:
        """The metric of the test rows of a model that learnt from some rows."""
        from tledge import model
        from tledge import train as training

        recipe = self.job.recipe
        changed = {"seed": seed, "finetune": recipe.finetune.model_copy(update={"report_to": []})}
        job = dataclasses.replace(self.job, recipe=recipe.model_copy(update=changed), progress=silent)
        classifier, place, folder = self.classifier, np.searchsorted(self.numbers, drawn), self.folder / "one"
        training.seed(seed)
        classifier.load_state_dict(self.initial)
        train = fresh.rows_of(job, self.splits.train.select(drawn), self.encoder)
        source = None
        if self.features is not None:
            source = model.KnownFeatures(train, self.validation, self.features[0][place], self.features[1])
        learn = fresh.learning(job)
        learn(job, classifier, self.encoder, train, self.validation, folder, folder / "kept", source=source)
        if self.features is None:
            test = _few_shot.features_of(job, classifier, self.encoder, self.test, folder / "kept")
        else:
            test = self.features[2]
        shutil.rmtree(folder, ignore_errors=True)
        outputs = {"logits": model.logits_of(classifier, test)}
        found = job.task.score(job.task.records(outputs, outputs), self.test.targets)
        return float(found.get(job.metric, math.nan))


def _is_frozen(job: Job) -> bool:
    """Whether the backbone of a recipe is the same for every training, so that its features can be kept."""
    settings = job.recipe.finetune
    frozen = settings.strategy == "probe" and settings.cache
    return frozen or (settings.strategy == "few_shot" and settings.few_shot.tune == "none")
