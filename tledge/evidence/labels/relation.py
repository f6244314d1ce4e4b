"""How cosines of vectors fit what is told of their texts, and the nearest texts of some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tledge import answers
from tledge.artifacts import read_json
from tledge.errors import DataError
from tledge.tasks import Task

if TYPE_CHECKING:
    from tledge.report import Neighbours

SCOPE = (
    "It gives a vector for every text, even for one unlike those that it learnt from. How large a cosine means that "
    "two texts are alike depends on the texts: choose it on rows of your own."
)
POINTS_SHOWN = 500
STEPS = 25
"""Of the cosine, in which pairs are counted."""


def read(task: Task, metric: str, labels: tuple[str, ...], folder: Path) -> dict[str, Any]:  # noqa: ARG001
    """The cosines of the chosen variant on the test rows, and the nearest texts of some.

    Raises:
        DataError: its answers are not stored.
    """
    from tledge.report import Vectors

    quantized = folder / "quantize"
    chosen = next(each["name"] for each in read_json(quantized / "variants.json") if each["chosen"])
    stored = answers.read(quantized, chosen)
    if stored is None:
        raise DataError(f"{quantized} has no answers of {chosen}; run the stage quantize again")
    cosines, truth, known = (stored.records[name] for name in ("cosines", "truth", "known"))
    neighbours = _neighbours(quantized / "samples.json")
    if cosines.shape[1] == 1:
        rows = np.unique(np.linspace(0, len(cosines) - 1, min(POINTS_SHOWN, len(cosines))).astype(int))
        points = tuple((float(truth[i, 0]), float(cosines[i, 0])) for i in rows)
        return {"numeric": True, "scope": SCOPE, "vectors": Vectors(points, neighbours=neighbours)}
    shares = {name: _shares(cosines[:, i][known[:, i]]) for i, name in enumerate(("alike", "not alike"))}
    found = Vectors(shares={name: of for name, of in shares.items() if of}, neighbours=neighbours)
    return {"numeric": True, "scope": SCOPE, "vectors": found}


def _shares(cosines: Any) -> tuple[tuple[float, float], ...]:
    """The middle of each step of the cosine between -1 and 1, and the share of cosines in it."""
    if not len(cosines):
        return ()
    counts, edges = np.histogram(np.clip(cosines, -1, 1), bins=STEPS, range=(-1, 1))
    return tuple((float((edges[i] + edges[i + 1]) / 2), float(count / counts.sum())) for i, count in enumerate(counts))


def _neighbours(path: Path) -> tuple[Neighbours, ...]:
    from tledge.report import Neighbours

    written = read_json(path) if path.exists() else []
    return tuple(
        Neighbours(each["prompt"], tuple((text, float(cosine)) for text, cosine in json.loads(each["text"])))
        for each in written
    )
