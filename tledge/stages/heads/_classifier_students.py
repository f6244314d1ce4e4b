"""How students of a classifier learn."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tledge import inputs, losses, plugins
from tledge.cache import open_cache
from tledge.errors import StorageError
from tledge.evaluate import score
from tledge.inputs import Input
from tledge.recipe.schema import Distill
from tledge.stages.distillation import EPOCHS, learning_rate, learnt, of_teacher, paired, start_of
from tledge.stages.heads.fresh import KEPT, SAMPLE_ROWS, fresh_classifier, rows_of, scoring
from tledge.stages.job import Job

FRESH_HEAD_FACTOR = 10
"""How much faster a head that was put on a pretrained backbone learns than the backbone, as in fine-tuning."""
BATCH = 16  # torch eager in fp32 answers a row alike alone and in a batch


class ClassifierStudents:
    """The students of a classifier of texts or images: a `Students`."""

    def __init__(self, job: Job, folder: Path) -> None:
        from tledge import data, model

        assert job.recipe.distill is not None
        self.job = job
        self.folder = folder
        self.settings: Distill = job.recipe.distill
        self.splits = data.open_splits(job.stage("data"))
        self.checkpoint = job.stage("train") / "checkpoint"
        self.teacher = model.load(self.checkpoint).requires_grad_(False)
        self.teacher_encoder = inputs.load(job.task.INPUT, self.checkpoint)
        self.encoder: Input = self.teacher_encoder
        self.start = start_of(self.settings.student, len(self.teacher.blocks()))
        self.backbone: Any = None
        self._facts: dict[str, Any] = {}
        self._read_by: dict[str, Any] = {}
        self._read_rows: dict[str, Any] = {}

    def export_graph(self) -> Any:
        """The ladder's own: that of a classifier."""
        return None

    def make(self, seed: int) -> Any:
        """The student before its training."""
        from tledge import model, train

        if self.start.backbone is None:
            return of_teacher(self.teacher, self.start, seed)
        student = self.settings.student
        train.seed(seed)
        self.backbone = model.load_backbone(
            self.start.backbone,
            kind=self.job.task.BACKBONES,
            revision=student.revision,
            weights=student.weights,
            match=student.match,
        )
        targets = self.job.task.targets(self.splits.train["label"], len(self.splits.labels))
        classifier = fresh_classifier(self.job, self.backbone, self.splits.labels, targets)
        classifier.save_inputs(self.folder / "inputs", self.backbone)
        self.encoder = inputs.load(self.job.task.INPUT, self.folder / "inputs")
        return classifier

    def teach(self, student: Any, *, with_teacher: bool, seed: int, folder: Path, phase: str) -> Any:
        """Train a student in place."""
        from tledge import train

        task, settings, labels = self.job.task, self.settings, self.splits.labels
        lessons = self._read_by.get(self.encoder.identity) or self._lessons()
        self._read_by[self.encoder.identity] = lessons
        ours, theirs = ([block.modules[-1] for block in each.blocks()] for each in (student, self.teacher))
        pairing = paired(settings, ours, theirs)
        if with_teacher and not self._facts:
            self._facts = learnt(self.job, student, self.teacher, lessons.train, pairing)
        if with_teacher and self._always_says_the_same():
            lessons = self._read_by[self.encoder.identity] = self._with_logits(lessons)
        groups, base_rate = self._groups(student)
        mixes = settings.augmentation.mixes_images
        hard_loss = plugins.load(losses.__name__, self.job.recipe.finetune.loss or task.LOSS).loss
        rows = self._rows("train")
        weights = train.label_weights(
            settings.class_weights,
            rows.counted,
            task.output_names(labels),
            task.target_scale(rows.targets),
            section="distill",
        )
        return train.distill(
            student,
            self.teacher if with_teacher else None,
            train.Sets(
                lessons.train,
                lessons.validation,
                train.Mix(settings.augmentation, len(labels)) if mixes else None,
                lessons.labelled_share,
            ),
            train.RowTargets(task.PROBLEM_TYPE, hard_loss, weights),
            train.Scoring(scoring(task, self._rows("validation")), self.job.metric, self.job.lower_is_better),
            train.Plan(phase, f"seed {seed}", folder, groups, settings.epochs or EPOCHS, seed, base_rate),
            settings,
            pairing=pairing,
            progress=self.job.progress,
        )

    def test(self, model: Any, who: str) -> dict[str, float]:
        """Metrics on the test rows in torch eager."""
        from tledge import export

        rows = self._rows("test")
        return score(
            export.torch_run(model),
            self.teacher_encoder if model is self.teacher else self.encoder,
            rows.values,
            rows.targets,
            self.job.task,
            batch_size=BATCH,
            progress=self.job.progress,
            description=f"Scoring the {who} on test rows",
        ).metrics

    def save(self, student: Any, folder: Path) -> None:
        """Write the student's checkpoint, with the tokenizer or image size that it reads with."""
        from tledge import model

        if self.start.backbone is None:
            model.save_beside(student, folder, self.checkpoint)
        else:
            student.save(folder, self.backbone)
        values = self._rows("train").values
        sample = self.encoder.encode([values[i] for i in range(min(SAMPLE_ROWS, len(values)))])
        model.check_saved(student, folder, sample)

    def facts(self) -> Mapping[str, Any]:
        """What `distill.json` says of the student and of what it learns."""
        return {**self._facts, "notes": list(getattr(self.backbone, "notes", ()))}

    def _lessons(self) -> Any:
        """The batches of this student and the teacher, each of which may read with its own tokenizer or image size."""
        from tledge import batches, data, model

        settings = self.settings
        unlabelled = data.open_unlabelled(self.job.stage("data"))
        lessons = model.distillation_sets(
            self.encoder,
            self._rows("train"),
            self._rows("validation"),
            progress=self.job.progress,
            teacher_encoder=self.teacher_encoder,
            unlabelled=None if unlabelled is None else data.inputs_of(unlabelled, self.job.task),
            augment=batches.Augment.of(settings.augmentation),
            cache=self._cache(),
            workers=settings.workers,
        )
        return self._with_logits(lessons) if settings.teacher_cache else lessons

    def _always_says_the_same(self) -> bool:
        """Whether the teacher is asked for answers alone, on rows that are never changed."""
        changes = self.settings.augmentation
        return not (
            self._facts["layer_map"] or changes.changes_images or changes.mixes_images or self.settings.teacher_cache
        )

    def _with_logits(self, lessons: Any) -> Any:
        """The sets with what the teacher answers to each training row, computed once."""
        from tledge import model

        if lessons.has_teacher_logits:
            return lessons
        return model.with_teacher_logits(
            lessons, self.teacher, batch_size=self.settings.batch_size, progress=self.job.progress
        )

    def _cache(self) -> Path | None:
        """Where decoded images are kept; `None` where the recipe or the disk says that none are."""
        if self.job.recipe.finetune.cache:
            with suppress(StorageError):
                return open_cache(KEPT)
        return None

    def _groups(self, student: Any) -> tuple[list[dict[str, Any]], float | None]:
        """Parameter groups, and the rate that they are made for where it is still to be found."""
        from tledge import model

        decay = self.settings.weight_decay
        rate, base_rate, random = learning_rate(self.settings, self.start)
        if self.start.backbone is None or random:
            return model.groups_of(student.parameters(), rate, decay), base_rate
        groups = model.groups_of(student.backbone.parameters(), rate, decay)
        return groups + model.groups_of(student.classifier.parameters(), rate * FRESH_HEAD_FACTOR, decay), base_rate

    def _rows(self, split: str) -> Any:
        """The rows of a split, as the student reads them."""
        key = f"{split} {self.encoder.identity}"
        if key not in self._read_rows:
            self._read_rows[key] = rows_of(self.job, getattr(self.splits, split), self.encoder)
        return self._read_rows[key]
