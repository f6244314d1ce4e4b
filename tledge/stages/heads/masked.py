"""The head that says what hidden words were: the checkpoint's own, or a fresh one on an encoder alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tledge import inputs, processes, tasks
from tledge.errors import ModelError, RecipeError
from tledge.inputs.masked_text import MaskedTextInput
from tledge.stages import vocabulary
from tledge.stages.heads import Trained
from tledge.stages.job import Job
from tledge.stages.rows.masked_blocks import HiddenWords

if TYPE_CHECKING:
    from tledge.stages.distillation import Students

SAMPLE_BLOCKS = 2
"""Training blocks on which a checkpoint is compared with the model that it was saved from."""


def students(job: Job, folder: Path) -> Students:  # noqa: ARG001
    """None yet.

    Raises:
        RecipeError: always.
    """
    raise RecipeError(
        f"distill: {job.recipe.task} has no students; distil the model of the task that its encoder is for"
    )


def train(job: Job, folder: Path, *, pretrained: bool = True) -> Trained:
    """The masked language model of a recipe, trained; or with the strategy `none` as it is.

    Args:
        job: the run, whose blocks are read.
        folder: takes what training resumes from.
        pretrained: must be true.
    """
    from tledge import data, model
    from tledge import train as training

    assert pretrained
    recipe = job.recipe
    blocks = data.open_blocks(job.stage("data"))
    training.seed(recipe.seed)
    language = model.load_masked(
        recipe.model.backbone, revision=recipe.model.revision, max_length=recipe.model.max_length
    )
    with training.main_first():
        if processes.is_main():
            model.save_masked_tokenizer(language.tokenizer, folder / "inputs", recipe.model.max_length)
        encoder = cast("MaskedTextInput", inputs.load(job.task.INPUT, folder / "inputs"))
    _check(blocks, language, encoder, recipe.model.max_length)
    unknown_tokens = vocabulary.unknown_share_of(job, blocks.train, language.tokenizer)
    digest = model.weights_digest(language.module)
    module, fitted, notes = language.module, [], [*language.notes]
    parameters, trained = sum(p.numel() for p in module.parameters()), 0
    if language.is_fresh:
        job.say(f"train: {notes[-1]}")
    if recipe.finetune.strategy == "none":
        notes.append("taken as it is")
    else:
        phase = model.language_phase(language, recipe.finetune, seed=recipe.seed)
        fitted = [_fit(job, phase, blocks, encoder, folder)]
        module, parameters, trained = phase.finish().cpu(), phase.parameters, phase.trained

    def save(checkpoint: Path) -> None:
        length = recipe.model.max_length
        model.save_masked(module, checkpoint, language.tokenizer, task=recipe.task, max_length=length)
        sample = HiddenWords(encoder).encode(list(blocks.train[:SAMPLE_BLOCKS]))
        model.check_saved_masked(module, checkpoint, sample)

    return Trained(module, digest, parameters, trained, unknown_tokens, save, fitted, notes)


def _fit(job: Job, phase: Any, blocks: Any, encoder: MaskedTextInput, folder: Path) -> Any:
    from tledge import train as training

    settings = job.recipe.finetune
    rows = partial(training.MaskedBlocks, masking=encoder.masking, has_types="token_type_ids" in encoder.input_names)
    return training.fit(
        training.HiddenTokens(phase.module, label_smoothing=settings.label_smoothing, on_training=phase.on_training),
        training.Sets(rows(blocks.train), rows(blocks.validation, fixed=True)),
        training.hidden_loss,
        training.Scoring(partial(_scored, job.task), job.metric, job.lower_is_better, output=training.JUDGED),
        training.Plan(
            settings.strategy,
            phase.note,
            folder / settings.strategy,
            phase.groups,
            phase.epochs,
            job.recipe.seed,
            phase.base_rate,
        ),
        settings,
        progress=job.progress,
    )


def _scored(task: tasks.Task, outputs: tasks.Outputs, targets: Any) -> dict[str, float]:
    """The metrics of validation blocks: each hidden token's loss, and the token that is the likeliest."""
    judged = next(iter(outputs.values()))
    return task.score({"token_losses": judged[..., 0], "tokens": np.rint(judged[..., 1]).astype(np.int64)}, targets)


def _check(blocks: Any, language: Any, encoder: MaskedTextInput, max_length: int) -> None:
    """The blocks must be what this recipe's stage `data` makes."""
    from tledge import data

    digest = data.tokenizer_digest(language.tokenizer.backend_tokenizer)
    around = len(encoder.masking.before) + len(encoder.masking.after)
    if blocks.block + around != max_length or blocks.report["tokenizer"] != digest:
        raise ModelError(
            f"model: the run's blocks of {blocks.block} tokens were made with another tokenizer or model.max_length "
            f"(now {max_length}, {around} of them special); remove the run's folder data, and run again"
        )
