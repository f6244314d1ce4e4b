"""The recipe's settings in the words of the Hugging Face Trainer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, get_scheduler
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from tledge.errors import TrainError, did_you_mean
from tledge.recipe.schema import Training


def arguments(
    settings: Training,
    *,
    section: str,
    epochs: float,
    metric: str,
    lower_is_better: bool,
    random_seed: int,
    folder: Path,
    learning_rate: float,
    decodes: bool,
) -> TrainingArguments:
    """The Trainer's arguments for one phase.

    Args:
        settings: the recipe's section about this training.
        section: its name, for messages.
        epochs: passes over the training rows.
        metric: what picks the best epoch.
        lower_is_better: whether it is to be small.
        random_seed: of the row order.
        folder: takes checkpoints and logs.
        learning_rate: the largest of the parameter groups, for the logs.
        decodes: whether batches are images that are decoded in every epoch: then worker processes do it, and scoring
            keeps to the training's batch size, since a batch of images fills the memory that hundreds of texts take.

    Raises:
        TrainError: a setting that transformers or this machine does not take.
    """
    accelerated = has_accelerator()
    _check_names(settings, section)
    if settings.precision == "fp16" and not accelerated:
        raise TrainError(f"{section}.precision: fp16 needs a GPU, and this machine has none; use bf16 or fp32")
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")
    with settings_at_fault(section):
        made = TrainingArguments(
            output_dir=str(folder / "checkpoints"),
            num_train_epochs=epochs,
            per_device_train_batch_size=settings.batch_size,
            per_device_eval_batch_size=settings.batch_size if decodes else max(64, settings.batch_size),
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
            greater_is_better=not lower_is_better,
            restore_callback_states_from_checkpoint=settings.early_stopping_patience is not None,
            logging_nan_inf_filter=False,
            remove_unused_columns=False,
            label_names=["labels"],
            dataloader_pin_memory=accelerated,
            dataloader_num_workers=workers(settings) if decodes else 0,
            report_to=settings.report_to or "none",
            disable_tqdm=True,
            seed=random_seed,
            data_seed=random_seed,
        )
    # One process trains on one GPU: copies of a module in threads would not be listened to, nor sum their losses.
    made._n_gpu = min(made.n_gpu, 1)
    return made


def workers(settings: Training) -> int:
    """How many processes decode images: `workers`, by default none on a CPU and else one a core, up to 8."""
    if settings.workers is not None:
        return settings.workers
    return min(8, os.cpu_count() or 1) if has_accelerator() else 0


def ready(batch: Any) -> Any:
    """What a loader does with a batch: nothing, the datasets give whole ones."""
    return batch


def has_accelerator() -> bool:
    """Whether training runs on a GPU."""
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _check_names(settings: Training, section: str) -> None:
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
                    f"{section}.{key}: transformers does not know {name!r}; known are {', '.join(known[key])}"
                    f"{did_you_mean(name, known[key])}"
                )
    try:
        get_scheduler(settings.schedule, torch.optim.SGD([torch.zeros(1)]), num_warmup_steps=1, num_training_steps=9)
    except (ValueError, TypeError) as error:
        raise TrainError(
            f"{section}.schedule: {settings.schedule!r} needs settings that a recipe has no keys for ({error}); "
            "use linear, cosine or constant_with_warmup"
        ) from error


@contextmanager
def settings_at_fault(section: str) -> Iterator[None]:
    """Tell the user what transformers says about the settings, such as a package that an optimizer needs."""
    try:
        yield
    except (ValueError, RuntimeError, ImportError) as error:
        raise TrainError(f"{section}: {str(error).strip().partition(chr(10))[0]}") from error
