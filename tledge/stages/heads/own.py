"""The checkpoint's own head: a language model, whose rows are blocks of tokens."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tledge import tasks
from tledge.errors import ModelError
from tledge.stages import vocabulary
from tledge.stages.heads import Trained
from tledge.stages.job import Job
from tledge.tasks import causal_lm

if TYPE_CHECKING:
    from tledge.stages.heads._language_students import LanguageStudents

SAMPLE_BLOCKS = 2
"""Training blocks on which a checkpoint is compared with the model that it was saved from."""


def students(job: Job, folder: Path) -> LanguageStudents:  # noqa: ARG001
    """How students of a language model learn."""
    from tledge.stages.heads._language_students import LanguageStudents

    return LanguageStudents(job)


def train(job: Job, folder: Path, *, pretrained: bool = True) -> Trained:
    """The language model of a recipe, trained; or with the strategy `none` as it is.

    Args:
        job: the run, whose blocks are read.
        folder: takes what training resumes from.
        pretrained: must be true: a shape with random weights is `model.shape`.
    """
    from tledge import data, model
    from tledge import train as training

    assert pretrained
    recipe = job.recipe
    blocks = data.open_blocks(job.stage("data"))
    training.seed(recipe.seed)
    language = model.load_language(
        recipe.model.backbone,
        revision=recipe.model.revision,
        shape=recipe.model.shape,
        tokenizer=recipe.model.tokenizer,
        seed=recipe.seed,
        max_length=recipe.model.max_length,
    )
    _check(blocks, language, recipe.model.max_length)
    unknown_tokens = vocabulary.unknown_share_of(job, blocks.train, language.tokenizer)
    digest = model.weights_digest(language.module)
    module, fitted, notes = language.module, [], [*language.notes]
    parameters, trained = sum(p.numel() for p in module.parameters()), 0
    if recipe.finetune.strategy == "none":
        notes.append("taken as it is")
    else:
        phase = model.language_phase(language, recipe.finetune, seed=recipe.seed)
        fitted = [_fit(job, phase, blocks, folder)]
        module, parameters, trained = phase.finish().cpu(), phase.parameters, phase.trained

    def save(checkpoint: Path) -> None:
        model.save_language(module, checkpoint, language.tokenizer)
        model.check_saved_language(module, checkpoint, blocks.train[:SAMPLE_BLOCKS])

    return Trained(module, digest, parameters, trained, unknown_tokens, save, fitted, notes)


def _fit(job: Job, phase: Any, blocks: Any, folder: Path) -> Any:
    from tledge import train as training

    settings = job.recipe.finetune
    return training.fit(
        training.NextToken(phase.module, label_smoothing=settings.label_smoothing, on_training=phase.on_training),
        training.Sets(training.TokenBlocks(blocks.train), training.TokenBlocks(blocks.validation)),
        training.token_loss,
        scoring(job, blocks),
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


def scoring(job: Job, blocks: Any) -> Any:
    """How epochs are scored on the validation blocks."""
    from tledge import train as training

    score = partial(scored, bytes_per_token=blocks.bytes_per_token["validation"])
    return training.Scoring(score, job.metric, job.lower_is_better, output="token_losses")


def scored(outputs: tasks.Outputs, targets: Any, *, bytes_per_token: float) -> dict[str, float]:
    """The metrics of validation blocks, bits per byte too."""
    loss = causal_lm.score(outputs, targets)["loss"]
    return causal_lm.metrics_of(loss, bytes_per_token)


def _check(blocks: Any, language: Any, max_length: int) -> None:
    """The blocks must be what this recipe's stage `data` makes."""
    from tledge import data

    digest = data.tokenizer_digest(language.tokenizer.backend_tokenizer)
    if blocks.block != max_length or blocks.report["tokenizer"] != digest:
        raise ModelError(
            f"model: the run's blocks of {blocks.block} tokens were made with another tokenizer or model.max_length "
            f"(now {max_length}); remove the run's folder data, and run again"
        )
