"""How students of a language model learn to write as it does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tledge.errors import ModelError
from tledge.evaluate import score
from tledge.recipe.schema import Distill
from tledge.stages.distillation import EPOCHS, learning_rate, learnt, of_teacher, paired, start_of
from tledge.stages.heads.own import SAMPLE_BLOCKS, scoring
from tledge.stages.job import Job


class LanguageStudents:
    """The students of a language model: a `Students`."""

    def __init__(self, job: Job) -> None:
        from tledge import data, model

        assert job.recipe.distill is not None
        self.job = job
        self.settings: Distill = job.recipe.distill
        self.blocks = data.open_blocks(job.stage("data"))
        self.language = model.load_language(str(job.stage("train") / "checkpoint"))
        self.teacher = self.language.module.requires_grad_(False)
        self.start = start_of(self.settings.student, model.student.n_blocks(self.teacher))
        self._facts: dict[str, Any] = {}
        self._notes: tuple[str, ...] = ()

    def export_graph(self) -> Any:
        """Writes a decoder's graph."""
        from tledge import export

        settings = self.job.recipe.export
        return lambda student, path: export.export_decoder(student, path, opset=settings.opset, external_data=False)

    def make(self, seed: int) -> Any:
        """The student before its training."""
        from tledge import model

        if self.start.backbone is None:
            return of_teacher(self.teacher, self.start, seed)
        found = model.load_language(self.start.backbone, revision=self.settings.student.revision, seed=seed)
        self._notes = found.notes
        ours, theirs = found.config.vocab_size, self.teacher.config.vocab_size
        same = found.tokenizer.get_vocab() == self.language.tokenizer.get_vocab()
        if ours != theirs or not same:
            raise ModelError(
                f"distill.student.backbone: {self.start.backbone!r} has another vocabulary ({ours:,} tokens) than the "
                f"teacher ({theirs:,} tokens), whose probabilities of tokens it is to learn; take one with the "
                "teacher's tokenizer, or distill.student.layers or shape"
            )
        return found.module

    def teach(self, student: Any, *, with_teacher: bool, seed: int, folder: Path, phase: str) -> Any:
        """Train a student in place."""
        from tledge import model, train

        settings = self.settings
        rows = train.TokenBlocks(self.blocks.train)
        ours, theirs = (list(model.block_list(each)[1]) for each in (student, self.teacher))
        pairing = paired(settings, ours, theirs)
        if with_teacher and not self._facts:
            self._facts = learnt(self.job, student, self.teacher, rows, pairing)
        groups, base_rate = self._groups(student)
        return train.distill(
            student,
            self.teacher if with_teacher else None,
            train.Sets(rows, train.TokenBlocks(self.blocks.validation)),
            train.TokenTargets(self.job.task.PROBLEM_TYPE),
            scoring(self.job, self.blocks),
            train.Plan(phase, f"seed {seed}", folder, groups, settings.epochs or EPOCHS, seed, base_rate),
            settings,
            pairing=pairing,
            progress=self.job.progress,
        )

    def test(self, model: Any, who: str) -> dict[str, float]:
        """Metrics on the test blocks in torch eager."""
        from tledge import export

        rows = self.job.rows.scored(self.job, "test", self.job.stage("train") / "checkpoint")
        return score(
            export.torch_logits(model),
            rows.encoder,
            rows.values,
            rows.targets,
            self.job.task,
            progress=self.job.progress,
            description=f"Scoring the {who} on test blocks",
        ).metrics

    def save(self, student: Any, folder: Path) -> None:
        """Write the student's checkpoint, with the teacher's tokenizer."""
        from tledge import model

        model.save_language(student, folder, self.language.tokenizer)
        model.check_saved_language(student, folder, self.blocks.train[:SAMPLE_BLOCKS])

    def facts(self) -> Mapping[str, Any]:
        """What `distill.json` says of what the student learns."""
        return {**self._facts, "notes": list(self._notes)}

    def _groups(self, student: Any) -> tuple[list[dict[str, Any]], float | None]:
        from tledge import model

        rate, base_rate, _ = learning_rate(self.settings, self.start)
        return model.groups_of(student.parameters(), rate, self.settings.weight_decay), base_rate
