"""The batches of a distillation: what the student reads, and beside it what its teacher reads of the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tledge.batches import Augment, Beside, Columns, TokenVectors, Values
from tledge.model.rows import TRAINING, VALIDATION, Rows
from tledge.precision import training_device
from tledge.progress import Progress, silent

OF_TEACHER = "teacher_"
"""What the names of a batch's tensors begin with that are for the teacher alone."""


@dataclass(frozen=True, slots=True)
class DistillationSets:
    """Rows that a student learns from, and rows that it is scored on, with `labels`.

    `own` are the training rows as the student reads them, `labels` their labels, with `labelled`, `(batch,) bool`,
    where not all have one, and `unchanged` the rows as the teacher reads them, without random changes.
    `labelled_share` is the share of the training rows that have a label. `has_teacher_logits` tells that batches hold
    what the teacher answers.
    """

    train: Columns
    validation: Columns
    own: Columns
    labels: Columns
    unchanged: Columns
    labelled_share: float
    has_teacher_logits: bool = False


def distillation_sets(
    student_encoder: Any,
    train: Rows,
    validation: Rows,
    *,
    progress: Progress = silent,
    teacher_encoder: Any | None = None,
    unlabelled: Sequence[Any] | None = None,
    augment: Augment | None = None,
    cache: Path | None = None,
    workers: int | None = None,
) -> DistillationSets:
    """The batches of a distillation.

    Where the teacher reads texts with another tokenizer, or images in another size or normalisation, batches also hold
    its tensors, with names that begin with `teacher_`: of the same text, or of the same random view of the image.

    Args:
        student_encoder: the student's `Input` of `tledge.inputs`.
        train: rows that train.
        validation: rows that are scored; they are never changed, and only the student reads them.
        progress: shown while texts are tokenized, or images decoded.
        teacher_encoder: the teacher's `Input`; `None` where it reads what the student reads.
        unlabelled: more values to train on, without a label.
        augment: changes training images at random; `None` leaves images as they are.
        cache: keeps decoded images; `None` for images that are decoded for each batch.
        workers: threads that decode; see the recipe's key.
    """
    values, targets = train.values, train.targets
    if unlabelled is not None:
        values = _Chained(values, unlabelled)
        targets = np.concatenate([targets, np.zeros((len(unlabelled), *targets.shape[1:]), targets.dtype)])
    rows = train if unlabelled is None else Rows(values, targets)
    labels = rows.labels()
    if unlabelled is not None:
        labels = Beside(labels, Values({"labelled": torch.arange(len(targets)) < len(train.targets)}))
    reads_alike = teacher_encoder is None or teacher_encoder.identity == student_encoder.identity
    reading = partial(rows.columns, progress=progress, workers=workers)
    own = theirs = reading(student_encoder, name=TRAINING, augment=augment, cache=cache)
    reader, prefix = (student_encoder, "") if reads_alike else (teacher_encoder, OF_TEACHER)
    if not reads_alike:
        theirs = reading(reader, name=TRAINING, augment=augment, prefix=prefix, cache=cache)
    unchanged = theirs if augment is None else reading(reader, name=TRAINING, prefix=prefix)
    scored = validation.columns(student_encoder, progress=progress, workers=workers, name=VALIDATION, cache=cache)
    return DistillationSets(
        Beside(own, labels) if reads_alike else Beside(own, labels, theirs),
        Beside(scored, validation.labels()),
        own,
        labels,
        unchanged,
        len(train.targets) / len(targets),
    )


def with_teacher_logits(
    sets: DistillationSets,
    teacher: nn.Module,
    *,
    batch_size: int,
    progress: Progress,
    device: torch.device | None = None,
) -> DistillationSets:
    """Sets whose batches hold `teacher_logits`, `(batch, labels) float32`, and nothing for the teacher to read.

    Those of a teacher that answers each token are `(batch, sequence, labels)`, zeros where there is none.

    The logits are computed here, once for each training row without random changes, and kept in memory.

    Args:
        sets: as `distillation_sets` gives them.
        teacher: its forward gives `{"logits": (batch, labels)}`; it is left in eval mode where it was.
        batch_size: rows in one run.
        progress: shown by rows.
        device: where it runs; by default a GPU where there is one, else where the teacher is.
    """
    here = next(teacher.parameters()).device
    device = device or training_device()
    teacher.to(device).eval()
    columns = sets.unchanged.on(device)
    order = torch.arange(len(columns))
    if columns.lengths is not None:
        order = torch.from_numpy(np.argsort(-columns.lengths, kind="stable"))
    parts: list[Tensor] = []
    per_token = False
    with torch.no_grad(), progress("Teacher over the training rows", total=len(order)) as advance:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = columns.finish({name: each.to(device) for name, each in columns.take(rows, 0).items()}, 0)
            inputs = {name.removeprefix(OF_TEACHER): each for name, each in batch.items()}
            logits = teacher(**inputs)["logits"].float()
            per_token = logits.ndim == 3
            parts.append(logits[inputs["attention_mask"].bool()] if per_token else logits)
            advance(len(rows))
    teacher.to(here)
    found = torch.cat(parts).cpu()
    offsets = np.arange(len(columns) + 1) if columns.lengths is None else np.append(0, np.cumsum(columns.lengths))
    offsets = offsets if per_token else np.arange(len(columns) + 1)
    sizes = np.diff(offsets)[order.numpy()]
    starts = np.repeat(offsets[order.numpy()] - np.append(0, np.cumsum(sizes)[:-1]), sizes)
    kept = torch.empty_like(found)
    kept[torch.from_numpy(starts + np.arange(len(found)))] = found
    answers = TokenVectors("teacher_logits", kept, offsets) if per_token else Values({"teacher_logits": kept})
    return replace(sets, train=Beside(sets.own, sets.labels, answers), has_teacher_logits=True)


class _Chained(Sequence[Any]):
    """Two sequences, one after the other, whose values are only read when they are asked for."""

    def __init__(self, first: Sequence[Any], second: Sequence[Any]) -> None:
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, row: Any) -> Any:
        n_first = len(self._first)
        if isinstance(row, slice):
            start, stop, _ = row.indices(len(self))
            return [*self._first[start:stop], *self._second[max(0, start - n_first) : max(0, stop - n_first)]]
        return self._first[row] if row < n_first else self._second[row - n_first]
