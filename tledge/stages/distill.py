"""The stage `distill`: a classifier's student, which learns from the teacher, and beside it the same one without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tledge import inputs, losses, plugins
from tledge.artifacts import StudentCandidate
from tledge.evaluate import score
from tledge.inputs import Input
from tledge.recipe.schema import Distill
from tledge.stages.course import lead
from tledge.stages.job import Job
from tledge.stages.train import fresh_classifier

EPOCHS = 3
COPIED_LEARNING_RATE = 1e-4
RANDOM_LEARNING_RATE = 1e-3
FRESH_HEAD_FACTOR = 10
"""How much faster a head that was put on a pretrained backbone learns than the backbone, as in fine-tuning."""
BATCH = 16  # torch eager in fp32 answers a row alike alone and in a batch


def stage(job: Job, folder: Path) -> str:
    """Train students with the teacher and without it, and keep the first one that had it."""
    return lead(job, folder, Lessons(job))


class ClassifierCourse:
    """The course of a classifier of texts or images: a `Course`."""

    def __init__(self, job: Job) -> None:
        from tledge import data, model

        assert job.recipe.distill is not None
        self.job = job
        self.settings: Distill = job.recipe.distill
        self.splits = data.open_splits(job.stage("data"))
        self.checkpoint = job.stage("train") / "checkpoint"
        self.teacher = model.load(self.checkpoint).requires_grad_(False)
        self.teacher_encoder = inputs.load(job.task.INPUT, self.checkpoint)
        self.layers: tuple[int, ...] | None = None
        self.plan: Plan | None = None
        self.backbone: Any = None
        self.encoder: Input = self.teacher_encoder

    def choose(self, folder: Path) -> tuple[StudentCandidate, ...]:
        """The recipe's student; for a budget that of the ladder's candidates which is best on the validation rows."""
        from tledge import model

        student = self.settings.student
        if student.budget is not None:
            return self._climb(folder)
        if student.shape is None and student.backbone is None:
            self.layers = model.choose_layers(student.layers, len(self.teacher.blocks()))
        return ()

    def start(self, seed: int) -> Any:
        """The student before its training."""
        from tledge import model, train

        student = self.settings.student
        if self.plan is not None and self.plan.backbone is None:
            return self.plan.make()
        if self.layers is not None:
            return model.from_layers(self.teacher, self.layers)
        if student.shape is not None:
            return model.of_shape(self.teacher, student.shape, seed)
        train.seed(seed)
        self.backbone = model.load_backbone(
            student.backbone if self.plan is None else self.plan.backbone,
            kind=self.job.task.INPUT,
            revision=student.revision,
            weights=student.weights,
            match=student.match,
        )
        return fresh_classifier(self.job, self.backbone, self.splits.labels, self._rows("train").targets)
        model.save_inputs(classifier, self.backbone, self.folder / "inputs")
        self.encoder = inputs.load(self.job.task.INPUT, self.folder / "inputs")
        return classifier

    def teach(self, student: Any, *, with_teacher: bool, seed: int, folder: Path, phase: str) -> Any:
        """Train a student in place."""
        from tledge import train

        lessons = self._lessons(student, with_teacher=with_teacher)
        groups, base_rate = self._groups(student)
        augmentation = self.settings.augmentation
        return train.distill(
            student,
            self.teacher if with_teacher else None,
            lessons.train,
            lessons.validation,
            pairing=self._pairing(student),
            settings=self.settings,
            problem_type=self.job.task.PROBLEM_TYPE,
            hard_loss=plugins.load(losses.__name__, self.job.recipe.finetune.loss or self.job.task.LOSS).loss,
            score=self.job.task.score,
            metric=self.job.metric,
            lower_is_better=False,
            label_weights=train.label_weights(
                self.settings.class_weights,
                self._rows("train").targets,
                self.splits.labels,
                self.job.task.PROBLEM_TYPE,
            ),
            groups=groups,
            base_rate=base_rate,
            epochs=self.settings.epochs or EPOCHS,
            random_seed=seed,
            folder=folder,
            progress=self.job.progress,
            phase=phase,
            note=f"with seed {seed}",
            decodes=lessons.decodes,
            mix=train.Mix(augmentation, len(self.splits.labels)) if augmentation.mixes_images else None,
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

        if self.backbone is None:
            model.save_beside(student, folder, self.checkpoint)
        else:
            model.save(student, folder, self.backbone)

    def _rows(self, split: str) -> Any:
        from tledge import model

        rows = getattr(self.splits, split)
        task = self.job.task
        return model.Rows(rows[task.INPUT_COLUMN], task.targets(rows["label"], len(self.splits.labels)))
