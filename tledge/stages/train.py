"""The stage `train`: a model that is made and trained as the recipe says, and kept as a checkpoint."""

from __future__ import annotations

from pathlib import Path

from tledge import artifacts, processes
from tledge.artifacts import write_json
from tledge.stages.job import Job


def stage(job: Job, folder: Path) -> str:
    """Make the model, train it as the strategy says, and write the checkpoint and the learning curves."""
    made = job.head.train(job, folder)
    if processes.is_main():
        made.save(folder / "checkpoint")
        write_json(
            folder / "train.json",
            {
                "backbone": job.recipe.model.backbone,
                "backbone_sha256": made.digest,
                "pooling": made.pooling,
                "input": dict(made.input),
                "notes": list(made.notes),
                "unknown_tokens": made.unknown_tokens,
                "parameters": made.parameters,
                "trained_parameters": made.trained_parameters,
                "phases": [artifacts.to_dict(each) for each in made.fitted],
            },
        )
    if not made.fitted:
        return "the checkpoint is taken as it is"
    last = made.fitted[-1]
    total = sum(last.time.values())
    waited = f", {last.time['data'] / total:.0%} of the time waiting for data" if total else ""
    pace = f" at epoch {last.best_epoch:g}, {last.rows_per_second:,.0f} rows/s" if last.rows_per_second else ""
    return f"{job.recipe.finetune.strategy}, validation {job.metric} {last.best_metric:.3f}{pace}{waited}"
