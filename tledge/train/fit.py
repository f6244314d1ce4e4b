"""Train one module with the Hugging Face Trainer: best epoch by the validation metric, resumable after a kill."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from accelerate import PartialState
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    get_scheduler,
    set_seed,
)
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from tledge.artifacts import from_dict, read_json, write_json
from tledge.errors import TrainError, did_you_mean
from tledge.progress import Advance, Progress
from tledge.recipe.schema import Finetune

COMPLETE = "complete"  # the last file of a checkpoint: without it, a kill came while the others were written

Loss = Callable[..., Tensor]
Score = Callable[[Mapping[str, npt.NDArray[Any]], npt.NDArray[Any]], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of a learning curve; `validation_metric` is the task's own."""

    epoch: float
    train_loss: float | None
    validation_loss: float
    validation_metric: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """What one phase of training gave. `seconds` is the time of this process, so it is short after a resume."""

    phase: str
    note: str
    steps: int
    best_epoch: float
    best_metric: float
    curve: tuple[Epoch, ...]
    seconds: float
    device: str


def fit(
    module: nn.Module,
    train: Dataset[Any],
    validation: Dataset[Any],
    *,
    phase: str,
    note: str,
    loss: Loss,
    score: Score,
    metric: str,
    label_weights: Tensor | None,
    groups: list[dict[str, Any]],
    epochs: float,
    settings: Finetune,
    random_seed: int,
    folder: Path,
    progress: Progress,
) -> Fitted:
    """Train a module in place and leave it with the weights of its best epoch.

    A checkpoint is kept after each epoch in `folder`; called again on the same folder, training goes on from the last
    whole one and gives what an undisturbed run gives.

    Args:
        module: its forward takes a batch's tensors and gives `{"logits": (batch, labels)}`.
        train: rows that train; items come in ready batches with a tensor `labels`.
        validation: rows that are scored after each epoch.
        phase: the name of this training, in progress and records.
        note: a line about it for the report.
        loss: a function of `tledge.losses`.
        score: outputs and targets to metrics; `metric` is the one to maximise.
        metric: a key of what `score` gives.
        label_weights: `(labels,) float32`, or `None`.
        groups: parameter groups with their learning rates.
        epochs: passes over `train`.
        settings: the recipe's `finetune`.
        random_seed: of the row order and of dropout.
        folder: where checkpoints, TensorBoard logs and the result are kept.
        progress: shown by optimizer steps.

    Raises:
        TrainError: the settings do not fit this machine, or the loss is no longer a finite number.
    """
    done = folder / "fitted.json"
    if done.exists():
        load_model(module, str(folder / "model.safetensors"))
        return from_dict(Fitted, read_json(done))
    started = time.monotonic()
    seed(random_seed)
    arguments = _arguments(settings, epochs, metric, random_seed, folder, max(group["lr"] for group in groups))

    def compute_loss(outputs: Mapping[str, Tensor], labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        return loss(
            outputs["logits"],
            labels,
            label_weights=label_weights,
            label_smoothing=settings.label_smoothing,
            n_items=num_items_in_batch,
        )

    # A module that takes any keyword would otherwise be handed the loss's own arguments.
    module.accepts_loss_kwargs = False  # type: ignore[assignment]
    with ExitStack() as stack:
        with _settings_at_fault():
            optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
            trainer = Trainer(
                model=module,
                args=arguments,
                train_dataset=train,
                eval_dataset=validation,
                data_collator=_ready,
                compute_loss_func=compute_loss,
                compute_metrics=lambda p: score({"logits": np.asarray(p.predictions)}, np.asarray(p.label_ids)),
                optimizers=(optimizer_class(groups, **options), None),
                callbacks=[_Watch(stack, progress, phase), _Complete()],
            )
        trainer.remove_callback(PrinterCallback)
        if settings.early_stopping_patience is not None:
            trainer.add_callback(EarlyStoppingCallback(settings.early_stopping_patience))
        try:
            trainer.train(resume_from_checkpoint=last_complete(folder / "checkpoints"))
        except torch.OutOfMemoryError as error:
            raise TrainError(
                f"training ({phase}): the accelerator's memory is full with finetune.batch_size {settings.batch_size}; "
                "lower it, and raise finetune.gradient_accumulation_steps by as much"
            ) from error
    fitted = _fitted(trainer, phase, note, metric, time.monotonic() - started)
    if trainer.is_world_process_zero():
        save_model(module, str(folder / "model.safetensors"))
        write_json(done, fitted)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return fitted


def last_complete(checkpoints: Path) -> str | None:
    """The newest checkpoint that was written to its end; half-written ones are removed."""
    found: list[tuple[int, Path]] = []
    for path in checkpoints.glob("checkpoint-*"):
        if (path / COMPLETE).exists():
            found.append((int(path.name.rpartition("-")[2]), path))
        else:
            shutil.rmtree(path, ignore_errors=True)
    return str(max(found)[1]) if found else None


@contextmanager
def main_first() -> Iterator[None]:
    """Run the block in the main process first, and in the others when it is done there."""
    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():
        yield


def seed(value: int) -> None:
    """Seed Python, numpy and torch, and ask torch for the deterministic kernels where there is a choice."""
    set_seed(value)
    torch.use_deterministic_algorithms(True, warn_only=True)


def label_weights(
    setting: Literal["balanced"] | Mapping[str, float] | None,
    targets: npt.NDArray[Any],
    labels: Sequence[str],
) -> Tensor | None:
    """The recipe's `finetune.class_weights` as `(labels,) float32`, `None` when there are none.

    Raises:
        TrainError: a weight for an unknown label; labels without an entry weigh 1.
    """
    if setting is None:
        return None
    if setting == "balanced":
        return balanced_weights(targets, len(labels))
    for name in setting:
        if name not in labels:
            raise TrainError(
                f"finetune.class_weights: {name!r} is no label; known are {', '.join(labels)}"
                f"{did_you_mean(name, labels)}"
            )
    return torch.tensor([setting.get(label, 1.0) for label in labels], dtype=torch.float32)


def balanced_weights(targets: npt.NDArray[Any], n_labels: int) -> Tensor:
    """Weights `(labels,) float32` inverse to each label's frequency, averaging to one over the rows.

    `targets` is `(rows,) int64` (scikit-learn's "balanced" formula) or `(rows, labels)` ones and zeros, where the
    weight of a label is the number of rows without it by the number with it (at least 1 each).
    """
    if targets.ndim == 1:
        counts = np.bincount(targets, minlength=n_labels)
        return torch.tensor(len(targets) / (n_labels * np.maximum(counts, 1)), dtype=torch.float32)
    positive = targets.sum(axis=0)
    weights = np.maximum(len(targets) - positive, 1) / np.maximum(positive, 1)
    return torch.tensor(weights, dtype=torch.float32)


def _arguments(
    settings: Finetune, epochs: float, metric: str, random_seed: int, folder: Path, learning_rate: float
) -> TrainingArguments:
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    _check_names(settings)
    if settings.precision == "fp16" and not accelerated:
        raise TrainError("finetune.precision: fp16 needs a GPU, and this machine has none; use bf16 or fp32")
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")
    with _settings_at_fault():
        return TrainingArguments(
            output_dir=str(folder / "checkpoints"),
            num_train_epochs=epochs,
            per_device_train_batch_size=settings.batch_size,
            per_device_eval_batch_size=max(64, settings.batch_size),
            gradient_accumulation_steps=settings.gradient_accumulation_steps,
            optim=settings.optimizer,
            learning_rate=learning_rate,
            lr_scheduler_type=settings.schedule,
            warmup_steps=settings.warmup_ratio,
            max_grad_norm=settings.max_grad_norm,
            bf16=settings.precision == "bf16",
            fp16=settings.precision == "fp16",
            use_cpu=not accelerated,
            eval_strategy="epoch",
            save_strategy="epoch",
            logging_strategy="epoch",
            save_total_limit=2,
            load_best_model_at_end=True,
            metric_for_best_model=metric,
            greater_is_better=True,
            restore_callback_states_from_checkpoint=settings.early_stopping_patience is not None,
            logging_nan_inf_filter=False,
            remove_unused_columns=False,
            label_names=["labels"],
            dataloader_pin_memory=accelerated,
            report_to=settings.report_to or "none",
            disable_tqdm=True,
            seed=random_seed,
            data_seed=random_seed,
        )


def _check_names(settings: Finetune) -> None:
    """Raise for names that the Trainer does not know, and for schedules that need more settings than there are."""
    known = {
        "optimizer": [str(name.value) for name in OptimizerNames],
        "schedule": [str(name.value) for name in SchedulerType],
        "report_to": [*INTEGRATION_TO_CALLBACK, "all", "none"],
    }
    asked = {"optimizer": [settings.optimizer], "schedule": [settings.schedule], "report_to": settings.report_to}
    for key, names in asked.items():
        for name in names:
            if name not in known[key]:
                raise TrainError(
                    f"finetune.{key}: transformers does not know {name!r}; known are {', '.join(known[key])}"
                    f"{did_you_mean(name, known[key])}"
                )
    try:
        get_scheduler(settings.schedule, torch.optim.SGD([torch.zeros(1)]), num_warmup_steps=1, num_training_steps=9)
    except (ValueError, TypeError) as error:
        raise TrainError(
            f"finetune.schedule: {settings.schedule!r} needs settings that a recipe has no keys for ({error}); "
            "use linear, cosine or constant_with_warmup"
        ) from error


@contextmanager
def _settings_at_fault() -> Iterator[None]:
    """Tell the user what transformers says about the settings, such as a package that an optimizer needs."""
    try:
        yield
    except (ValueError, RuntimeError, ImportError) as error:
        raise TrainError(f"finetune: {str(error).strip().partition(chr(10))[0]}") from error


def _ready(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The datasets give whole batches already."""
    return batch


def _fitted(trainer: Trainer, phase: str, note: str, metric: str, seconds: float) -> Fitted:
    curve: list[Epoch] = []
    train_loss: float | None = None
    for entry in trainer.state.log_history:
        if "eval_loss" in entry:
            curve.append(Epoch(entry["epoch"], train_loss, entry["eval_loss"], entry[f"eval_{metric}"]))
            train_loss = None
        elif "loss" in entry:
            train_loss = entry["loss"]
    best = max(curve, key=lambda point: point.validation_metric)
    return Fitted(
        phase=phase,
        note=note,
        steps=trainer.state.global_step,
        best_epoch=best.epoch,
        best_metric=best.validation_metric,
        curve=tuple(curve),
        seconds=seconds,
        device=str(trainer.args.device),
    )


class _Complete(TrainerCallback):
    """Marks a checkpoint as whole, after everything else of it is on disk."""

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


class _Watch(TrainerCallback):
    """Shows progress, and stops when the loss is no longer a number."""

    def __init__(self, stack: ExitStack, progress: Progress, phase: str) -> None:
        self._stack, self._progress, self._phase = stack, progress, phase
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
                    "number: lower finetune.learning_rate, or use precision bf16 or fp32"
                )
