"""The batches of a distillation: what the student reads, and beside it what its teacher reads of the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from tledge.model.batches import Batches, Fetch
from tledge.model.rows import Rows
from tledge.progress import Progress


class Augment(Protocol):
    """What is needed of `tledge.train.Augment`."""

    def __call__(self, value: Any, seed: int | None) -> Image.Image: ...
    def at(self, encoder: Any) -> Augment: ...


@dataclass(frozen=True, slots=True)
class DistillationSets:
    """Rows that a student learns from, and rows that it is scored on.

    `decodes` says whether batches are read from image files. `own` gives the training rows as the student reads them,
    and `unchanged` as the teacher does, without random changes.
    """

    train: DistillationBatches
    validation: Dataset[Any]
    decodes: bool
    own: Fetch
    unchanged: Fetch


class DistillationBatches(Batches):
    """Training rows, some of which may have no label: then `labelled`, `(batch,) bool`, says in batches which have one.

    `labelled_share` is the share of those that have one.
    """

    def __init__(self, fetch: Fetch, targets: npt.NDArray[Any], n_labelled: int) -> None:
        """Rows of which the first `n_labelled` have a label; the targets of the others only hold the place."""
        super().__init__(fetch, targets)
        self.targets, self.n_labelled = targets, n_labelled
        self.labelled_share = n_labelled / len(targets)

    def __getitems__(self, rows: list[int]) -> dict[str, Tensor]:
        """The batch of these rows."""
        batch = super().__getitems__(rows)
        if self.n_labelled < len(self):
            batch["labelled"] = torch.tensor(rows) < self.n_labelled
        return batch


def distillation_sets(
    student_encoder: Any,
    train: Rows,
    validation: Rows,
    *,
    teacher_encoder: Any | None = None,
    unlabelled: Sequence[Any] | None = None,
    augment: Augment | None = None,
) -> DistillationSets:
    """The batches of a distillation.

    Where the teacher reads texts with another tokenizer, or images in another size or normalisation, batches also hold
    its tensors, with names that begin with `teacher_`: of the same text, or of the same random view of the image.

    Args:
        student_encoder: the student's `Input` of `tledge.inputs`.
        train: rows that train.
        validation: rows that are scored; they are never changed, and only the student reads them.
        teacher_encoder: the teacher's `Input`; `None` where it reads what the student reads.
        unlabelled: more values to train on, without a label.
        augment: changes a training image at random, in the student's size; `None` leaves images as they are.
    """
    values, targets = train.values, train.targets
    if unlabelled is not None:
        values = _Chained(values, unlabelled)
        targets = np.concatenate([targets, np.zeros((len(unlabelled), *targets.shape[1:]), targets.dtype)])
    own = (
        partial(_encoded, student_encoder, values)
        if augment is None
        else partial(_changed, student_encoder, augment, values)
    )
    reads_alike = teacher_encoder is None or teacher_encoder.identity == student_encoder.identity
    if reads_alike:
        both = own
    elif augment is not None:
        changes = (augment, augment.at(teacher_encoder))
        both = partial(_changed_for_both, student_encoder, teacher_encoder, changes, values)
    else:
        both = partial(
            _images_for_both if student_encoder.decodes else _texts_for_both, student_encoder, teacher_encoder, values
        )
    return DistillationSets(
        DistillationBatches(both, targets, len(train.targets)),
        Batches(partial(_encoded, student_encoder, validation.values), validation.targets),
        decodes=student_encoder.decodes,
        own=own,
        unchanged=partial(_encoded, student_encoder if reads_alike else teacher_encoder, values),
    )


def with_teacher_logits(
    lessons: DistillationSets,
    teacher: nn.Module,
    *,
    batch_size: int,
    progress: Progress,
    device: torch.device | None = None,
) -> DistillationSets:
    """Sets whose batches hold `teacher_logits`, `(batch, labels) float32`, and nothing for the teacher to read.

    The logits are computed here, once for each training row without random changes, and kept in memory.

    Args:
        lessons: as `lessons` gives them.
        teacher: its forward gives `{"logits": (batch, labels)}`; it is left in eval mode on the device.
        batch_size: rows in one run.
        progress: shown by rows.
        device: where it runs; by default a GPU where there is one, else where the teacher is.
    """
    if device is None:
        device = torch.device("cuda") if torch.cuda.is_available() else next(teacher.parameters()).device
    teacher.to(device).eval()
    count = len(lessons.train)
    parts = []
    with torch.no_grad(), progress("Teacher over the training rows", total=count) as advance:
        for start in range(0, count, batch_size):
            rows = list(range(start, min(start + batch_size, count)))
            inputs = {name: each.to(device) for name, each in lessons.unchanged(rows).items()}
            parts.append(teacher(**inputs)["logits"].float().cpu())
            advance(len(rows))
    fetch = partial(_with_logits, lessons.own, torch.cat(parts))
    return replace(lessons, train=DistillationBatches(fetch, lessons.train.targets, lessons.train.n_labelled))


class _Chained(Sequence[Any]):
    """Two sequences, one after the other, whose values are only read when they are asked for."""

    def __init__(self, first: Sequence[Any], second: Sequence[Any]) -> None:
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, row: Any) -> Any:
        n_first = len(self._first)
        return self._first[row] if row < n_first else self._second[row - n_first]


def _encoded(encoder: Any, values: Sequence[Any], rows: list[int]) -> dict[str, Tensor]:
    return _tensors(encoder.encode([values[row] for row in rows]))


def _changed(encoder: Any, augment: Augment, values: Sequence[Any], rows: list[int]) -> dict[str, Tensor]:
    return _tensors(encoder.normalise([augment(values[row], None) for row in rows]))


def _texts_for_both(student: Any, teacher: Any, values: Sequence[Any], rows: list[int]) -> dict[str, Tensor]:
    texts = [values[row] for row in rows]
    return _tensors(student.encode(texts)) | _of_teacher(teacher.encode(texts))


def _images_for_both(student: Any, teacher: Any, values: Sequence[Any], rows: list[int]) -> dict[str, Tensor]:
    images = [student.decode(values[row]) for row in rows]
    ours, theirs = (each.normalise([each.fit(image) for image in images]) for each in (student, teacher))
    return _tensors(ours) | _of_teacher(theirs)


def _changed_for_both(
    student: Any, teacher: Any, changes: tuple[Augment, Augment], values: Sequence[Any], rows: list[int]
) -> dict[str, Tensor]:
    """The same random view of each image, in both sizes."""
    images = [student.decode(values[row]) for row in rows]
    seeds = torch.randint(2**31, (len(rows),)).tolist()
    ours, theirs = (
        encoder.normalise([change(image, seed) for image, seed in zip(images, seeds, strict=True)])
        for encoder, change in zip((student, teacher), changes, strict=True)
    )
    return _tensors(ours) | _of_teacher(theirs)


def _with_logits(own: Fetch, logits: Tensor, rows: list[int]) -> dict[str, Tensor]:
    return {**own(rows), "teacher_logits": logits[rows]}


def _tensors(arrays: Mapping[str, npt.NDArray[Any]], prefix: str = "") -> dict[str, Tensor]:
    return {prefix + name: torch.from_numpy(array) for name, array in arrays.items()}


def _of_teacher(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Tensor]:
    return _tensors(arrays, "teacher_")
