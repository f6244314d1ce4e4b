"""Scores by label and mistakes, where rows have one label or several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tledge.evidence import inputs
from tledge.evidence.answers import Answered, Array

if TYPE_CHECKING:
    from tledge.report import LabelScore, WrongPrediction


def facts(found: Answered, predicted: Array, truth: Array) -> dict[str, Any]:
    """The scores of each label, and the mistakes.

    Args:
        found: the answers.
        predicted: which labels each row got, `(rows, labels) bool`.
        truth: which it has, alike.
    """
    wrong = np.flatnonzero((predicted != truth).any(axis=1))
    return {
        "label_scores": tuple(
            _label_score(label, predicted[:, i], truth[:, i]) for i, label in enumerate(found.labels)
        ),
        "wrong": _wrong(found, truth, wrong),
        "wrong_count": len(wrong),
    }


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


def _wrong(found: Answered, truths: Array, wrong: Array) -> tuple[WrongPrediction, ...]:
    """The mistakes with the highest score of a wrong answer first."""
    from tledge.report import WrongPrediction

    labels, kind = found.labels, inputs.load(found.task.INPUT)
    given = found.task.decode({name: array[wrong] for name, array in found.records.items()}, labels)
    rows = []
    for row, answer, truth in zip(wrong, given, truths[wrong], strict=True):
        predicted = answer["labels"] if "labels" in answer else [answer["label"]]
        true = [label for label, is_true in zip(labels, truth, strict=True) if is_true]
        surprise = max((answer["scores"][label] for label in predicted if label not in true), default=0.0)
        rows.append((surprise, int(row), ", ".join(true), ", ".join(predicted)))
    shown = sorted(rows, key=lambda item: -item[0])[: kind.MOST]
    return tuple(
        WrongPrediction(truth=truth, predicted=predicted, score=surprise, **kind.shown(found.rows[row]))
        for surprise, row, truth, predicted in shown
    )
