"""The stage `data` of language models: texts are read and packed into blocks of tokens."""

from __future__ import annotations

from pathlib import Path

from tledge.stages.job import Job


def stage(job: Job, folder: Path) -> str:
    """Read the sources with the model's own tokenizer and write the blocks; no weights are loaded."""
    from tledge import data, model

    settings = job.recipe.model
    model.check_length(settings.backbone, settings.max_length, revision=settings.revision)
    tokenizer = model.load_tokenizer(settings.backbone, revision=settings.revision, tokenizer=settings.tokenizer)
    blocks = data.pack(
        job.recipe.data,
        tokenizer.backend_tokenizer,
        tokenizer.eos_token_id,
        block=settings.max_length,
        folder=folder,
        base=Path.cwd(),
        progress=job.progress,
    )
    tokens = ", ".join(f"{count:,} {name} tokens" for name, count in blocks.n_tokens.items())
    left_out = sum(blocks.report["skipped"].values())
    skipped = f", {left_out} broken {'row' if left_out == 1 else 'rows'} left out" if left_out else ""
    return f"{tokens} in blocks of {blocks.block}{skipped}"
