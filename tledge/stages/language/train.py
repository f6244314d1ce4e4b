"""The stage `train` of language models: trained on blocks of tokens as the strategy says, and kept as a checkpoint."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tledge import artifacts, processes, tasks
from tledge.artifacts import write_json
from tledge.errors import ModelError
from tledge.stages import vocabulary
from tledge.stages.job import Job
from tledge.tasks import causal_lm

SAMPLE_BLOCKS = 2
"""Training blocks on which a checkpoint is compared with the model that it was saved from."""


def stage(job: Job, folder: Path) -> str:
    """Load or make the language model, train it, and write the checkpoint and the learning curve."""
    from tledge import data, model
    from tledge import train as training

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
    if recipe.finetune.strategy == "none":
        module, fitted = language.module, None
        parameters, trained = sum(p.numel() for p in module.parameters()), 0
    else:
        phase = model.language_phase(language, recipe.finetune, seed=recipe.seed)
        fitted = _fit(job, phase, blocks, folder)
        module, parameters, trained = phase.finish().cpu(), phase.parameters, phase.trained
    if processes.is_main():
        model.save_language(module, folder / "checkpoint", language.tokenizer)
        model.check_saved_language(module, folder / "checkpoint", blocks.train[:SAMPLE_BLOCKS])
        write_json(
            folder / "train.json",
            {
                "backbone": recipe.model.backbone,
                "backbone_sha256": digest,
                "pooling": "",
                "input": {},
                "notes": [*language.notes, *(["taken as it is"] if fitted is None else [])],
                "unknown_tokens": unknown_tokens,
                "parameters": parameters,
                "trained_parameters": trained,
                "phases": [] if fitted is None else [artifacts.to_dict(fitted)],
            },
        )
    if fitted is None:
        return "taken as it is"
    return (
        f"{recipe.finetune.strategy}, validation {job.metric} {fitted.best_metric:.3f} at epoch {fitted.best_epoch:g}"
    )


def _fit(job: Job, phase: Any, blocks: Any, folder: Path) -> Any:
    from tledge import train as training

    settings = job.recipe.finetune
    return training.fit(
        training.NextToken(phase.module, label_smoothing=settings.label_smoothing, on_training=phase.on_training),
        training.TokenBlocks(blocks.train),
        training.TokenBlocks(blocks.validation),
        phase=settings.strategy,
        note=phase.note,
        objective=training.language_lesson,
        score=partial(scored, bytes_per_token=blocks.bytes_per_token["validation"]),
        metric=job.metric,
        lower_is_better=job.lower_is_better,
        output="token_losses",
        groups=phase.groups,
        epochs=phase.epochs,
        settings=settings,
        random_seed=job.recipe.seed,
        folder=folder / settings.strategy,
        progress=job.progress,
        base_rate=phase.base_rate,
    )


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
