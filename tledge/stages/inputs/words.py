"""Texts that are answered word by word, in windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tledge.stages.inputs.text import facts, finish
from tledge.stages.job import Job
from tledge.tasks import _spans

if TYPE_CHECKING:
    from tledge.model import Windows

__all__ = ["facts", "finish", "rows", "windows"]


def rows(job: Job, encoder: Any, values: Sequence[Any], targets: Any) -> Windows:
    """Windows of the texts, whose tokens have the tags of the spans."""
    from tledge import model

    how = job.recipe.finetune.tagged_tokens or ("first" if encoder.aggregation == "first" else "all")
    cuts = encoder.cuts(list(values))
    aligned = [
        row
        for cut, spans in zip(cuts, targets, strict=True)
        for row in _spans.align(spans, cut, tagged_tokens=how, aggregation=encoder.aggregation)
    ]
    return model.Windows(values, targets, encoder, cuts, aligned)


def windows(job: Job) -> dict[str, Any]:
    """How many tokens windows share, and how a word's tokens are taken together."""
    return {"stride": job.recipe.stride, "aggregation": job.recipe.model.aggregation}
