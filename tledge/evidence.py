"""What a run's folder tells: the facts of its report, read from the artifacts of the stages that are whole."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import tledge
from tledge import artifacts, tasks
from tledge.artifacts import BenchResult, ParityCase, Variant, read_json
from tledge.recipe import Recipe
from tledge.tasks import Task

if TYPE_CHECKING:
    from tledge.report import DataFacts, Facts, LabelScore, TrainingFacts, WrongPrediction

WRONG_SHOWN = 10
Array = npt.NDArray[Any]


def variants(folder: Path) -> tuple[Variant, ...]:
    """The variants in a run's `quantize` folder, fp32 first."""
    return tuple(artifacts.from_dict(Variant, item) for item in read_json(folder / "variants.json"))


def facts(recipe: Recipe, folder: Path) -> Facts:
    """Everything that a report shows of a run; what a missing stage would have told is left empty."""
    from tledge.report import Facts

    task = tasks.load(recipe.task)
    rows = read_json(folder / "data" / "data.json")
    bench = folder / "bench" / "bench.json"
    return Facts(
        recipe=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        task=recipe.task,
        version=tledge.__version__,
        metric=task.METRIC,
        labels=tuple(rows["labels"]),
        many_labels=task.PROBLEM_TYPE == "multi_label_classification",
        pipeline_tag=task.OPTIMUM_TASK,
        recipe_yaml=(folder / "recipe.yaml").read_text(encoding="utf-8"),
        data=_data(rows),
        training=_training(recipe, folder),
        variants=variants(folder / "quantize"),
        parity=tuple(artifacts.from_dict(ParityCase, case) for case in read_json(folder / "export" / "parity.json")),
        bench=artifacts.from_dict(BenchResult, read_json(bench)) if bench.exists() else None,
        stage_seconds=_seconds(folder),
        **_answers(task, tuple(rows["labels"]), folder),
    )


def _data(rows: dict[str, Any]) -> DataFacts:
    from tledge.report import DataFacts

    return DataFacts(
        sources=rows["sources"],
        rows=rows["rows"],
        label_counts=rows["label_counts"],
        skipped=rows["skipped"],
        duplicates=rows["duplicates"],
        conflicts=rows["conflicts"],
    )


def _training(recipe: Recipe, folder: Path) -> TrainingFacts:
    from tledge.report import Epoch, TrainingFacts

    trained = read_json(folder / "train" / "train.json")
    phases = trained["phases"]
    return TrainingFacts(
        backbone=recipe.model.backbone,
        parameters=trained["parameters"],
        trained_parameters=trained["trained_parameters"],
        strategy=recipe.finetune.strategy,
        pooling=trained["pooling"],
        max_length=recipe.model.max_length,
        seed=recipe.seed,
        seconds=sum(phase["seconds"] for phase in phases),
        device=phases[-1]["device"],
        curve=tuple(
            Epoch(**point, phase=phase["phase"] if len(phases) > 1 else "")
            for phase in phases
            for point in phase["curve"]
        ),
    )


def _seconds(folder: Path) -> dict[str, float]:
    order = ("data", "train", "export", "quantize", "bundle", "bench")
    paths = [folder / "stages" / f"{name}.json" for name in order]
    records = {path.stem: read_json(path) for path in paths if path.exists()}
    return {name: record["seconds"] for name, record in records.items() if "seconds" in record}


def _answers(task: Task, labels: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """What the chosen variant answered on the test rows: the baseline, confusion, scores by label, and mistakes."""
    from tledge import data

    splits = data.open_splits(folder / "data")
    targets = task.targets(splits.test["label"], len(labels))
    with np.load(folder / "quantize" / "test_outputs.npz") as stored:
        outputs = {name: stored[name] for name in stored.files}
    decisions = task.decisions(outputs)
    single = targets.ndim == 1
    wrong = np.flatnonzero(decisions != targets if single else (decisions != targets).any(axis=1))
    hits = _one_hot(decisions, len(labels)), _one_hot(targets, len(labels))
    return {
        "baseline": _baseline(task, splits.train["label"], targets, len(labels)),
        "confusion": _confusion(decisions, targets, len(labels)) if single else (),
        "label_scores": tuple(_label_score(label, *(hit[:, i] for hit in hits)) for i, label in enumerate(labels)),
        "wrong": _wrong(task, labels, splits.test, outputs, targets, wrong),
        "wrong_count": len(wrong),
    }


def _one_hot(indices: Array, n_labels: int) -> Array:
    return np.eye(n_labels, dtype=bool)[indices] if indices.ndim == 1 else indices.astype(bool)


def _baseline(task: Task, train_labels: Any, targets: Array, n_labels: int) -> float:
    """The metric of always giving the answer that is most frequent in the training rows."""
    keys, counts = np.unique([json.dumps(list(row)) for row in train_labels], return_counts=True)
    answer = task.targets([json.loads(keys[counts.argmax()])] * len(targets), n_labels)
    logits = np.where(_one_hot(answer, n_labels), 10.0, -10.0).astype(np.float32)
    return task.score({"logits": logits}, targets)[task.METRIC]


def _confusion(decisions: Array, targets: Array, n_labels: int) -> tuple[tuple[int, ...], ...]:
    counts = np.zeros((n_labels, n_labels), dtype=int)
    np.add.at(counts, (targets, decisions), 1)
    return tuple(tuple(int(n) for n in row) for row in counts)


def _label_score(label: str, predicted: Array, truth: Array) -> LabelScore:
    from tledge.report import LabelScore

    hit, given, count = int((predicted & truth).sum()), int(predicted.sum()), int(truth.sum())
    return LabelScore(
        label=label,
        precision=hit / given if given else None,
        recall=hit / count if count else None,
        f1=2 * hit / (given + count) if given + count else None,
        count=count,
    )


def _wrong(
    task: Task, labels: tuple[str, ...], rows: Any, outputs: dict[str, Array], targets: Array, wrong: Array
) -> tuple[WrongPrediction, ...]:
    """The mistakes with the highest score of a wrong answer first."""
    from tledge.report import WrongPrediction

    answers = task.decode({name: array[wrong] for name, array in outputs.items()}, labels)
    truths = _one_hot(targets, len(labels))[wrong]
    found = []
    for row, answer, truth in zip(wrong, answers, truths, strict=True):
        given = answer["labels"] if "labels" in answer else [answer["label"]]
        true = [label for label, is_true in zip(labels, truth, strict=True) if is_true]
        surprise = max((answer["scores"][label] for label in given if label not in true), default=0.0)
        text = str(rows[int(row)][task.INPUT_COLUMN])
        found.append(WrongPrediction(text, ", ".join(true), ", ".join(given), surprise))
    return tuple(sorted(found, key=lambda item: -(item.score or 0))[:WRONG_SHOWN])
