"""What happens between the Trainer's steps: checkpoints are sealed, progress is shown, a lost loss stops it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments

from tledge.errors import TrainError
from tledge.progress import Advance, Progress

COMPLETE = "complete"  # the last file of a checkpoint, with the names of the others


class Complete(TrainerCallback):
    """Marks a checkpoint as whole, after everything else of it is on disk, and finds the best one where it is now."""

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        if state.best_model_checkpoint:  # the run may have moved since it was killed
            state.best_model_checkpoint = str(Path(args.output_dir) / Path(state.best_model_checkpoint).name)

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            names = [path.name for path in folder.iterdir()]
            (folder / COMPLETE).write_text("\n".join(sorted(names)), encoding="utf-8")


class Watch(TrainerCallback):
    """Shows progress, and stops when the loss is no longer a number."""

    def __init__(self, stack: ExitStack, progress: Progress, phase: str, section: str) -> None:
        self._stack, self._progress, self._phase, self._section = stack, progress, phase, section
        self._advance: Advance | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        if state.is_world_process_zero:
            bar = self._progress(f"Training ({self._phase})", total=state.max_steps)
            self._advance = self._stack.enter_context(bar)
            self._advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        if self._advance is not None:
            self._advance(1)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float], **_: Any) -> None:  # noqa: ARG002
        for name in ("loss", "eval_loss"):
            if name in logs and not math.isfinite(logs[name]):
                raise TrainError(
                    f"training ({self._phase}): {name} is {logs[name]} in epoch {state.epoch:.2f}; expected a finite "
                    f"number: lower {self._section}.learning_rate, or use precision bf16 or fp32"
                )


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end, and nothing of it was removed since."""
    told = checkpoint / COMPLETE
    return told.exists() and all((checkpoint / name).exists() for name in told.read_text(encoding="utf-8").split("\n"))


def last_complete(checkpoints: Path) -> str | None:
    """The newest checkpoint that is whole; half-written ones are removed, and half-removed ones too."""
    found: list[tuple[int, Path]] = []
    for path in checkpoints.glob("checkpoint-*"):
        if is_whole(path):
            found.append((int(path.name.rpartition("-")[2]), path))
        else:
            shutil.rmtree(path, ignore_errors=True)
    return str(max(found)[1]) if found else None
