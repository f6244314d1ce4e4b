"""The recipe's names of optimizers, schedules and loggers, as transformers and accelerate have them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from accelerate.utils import ProjectConfiguration
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from tledge.errors import TrainError, did_you_mean
from tledge.precision import training_device
from tledge.recipe.schema import Training

PLATEAU = "reduce_lr_on_plateau"


def check(settings: Training, section: str) -> None:
    """Nothing for settings that transformers, accelerate and this machine take.

    Args:
        settings: the recipe's section about a training.
        section: its name, for messages.

    Raises:
        TrainError: an unknown name, a schedule that needs more settings than there are, or a precision without a GPU
            for it.
    """
    known = {
        "optimizer": [str(name.value) for name in OptimizerNames],
        "schedule": [str(name.value) for name in SchedulerType],
        "report_to": [*LOGGER_TYPE_TO_CLASS, "all"],
    }
    asked = {"optimizer": [settings.optimizer], "schedule": [settings.schedule], "report_to": settings.report_to}
    for key, names in asked.items():
        for name in names:
            if name not in known[key]:
                raise TrainError(
                    f"{section}.{key}: {name!r} is not known; known are {', '.join(known[key])}"
                    f"{did_you_mean(name, known[key])}"
                )
    try:
        get_scheduler(settings.schedule, torch.optim.SGD([torch.zeros(1)]), num_warmup_steps=1, num_training_steps=9)
    except (ValueError, TypeError) as error:
        raise TrainError(
            f"{section}.schedule: {settings.schedule!r} needs settings that a recipe has no keys for ({error}); "
            "use linear, cosine or constant_with_warmup"
        ) from error
    if settings.precision == "fp16" and training_device().type == "cpu":
        raise TrainError(f"{section}.precision: fp16 needs a GPU, and this machine has none; use auto, bf16 or fp32")


def accelerator(settings: Training, section: str, folder: Path) -> Accelerator:
    """Where a training runs, with how many processes, and who is told about its curves.

    Raises:
        TrainError: a logger's package is not installed.
    """
    logs = ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder / "tensorboard"))
    with at_fault(section):
        made = Accelerator(
            cpu=training_device().type == "cpu",
            log_with=settings.report_to or None,
            project_config=logs,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
    missing = [] if "all" in settings.report_to else settings.report_to[len(made.log_with) :]
    if missing:
        raise TrainError(f"{section}.report_to: the package of {missing[0]} is not installed; install it, or remove it")
    return made


def optimizer(settings: Training, section: str, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
    """The optimizer that a recipe names, over copies of parameter groups with their learning rates.

    Raises:
        TrainError: it does not take these settings, or a package that it needs is not installed.
    """
    with at_fault(section):
        on_cpu = training_device().type == "cpu"
        names = TrainingArguments(output_dir="unused", optim=settings.optimizer, report_to="none", use_cpu=on_cpu)
        kind, options = Trainer.get_optimizer_cls_and_kwargs(names)
        return kind([dict(group) for group in groups], **options)


def schedule(
    settings: Training, made: torch.optim.Optimizer, n_steps: int, *, lower_is_better: bool
) -> torch.optim.lr_scheduler.LRScheduler:
    """The schedule that a recipe names, for so many optimizer steps."""
    more = {"mode": "min" if lower_is_better else "max"} if settings.schedule == PLATEAU else {}
    return get_scheduler(
        settings.schedule,
        made,
        num_warmup_steps=math.ceil(n_steps * settings.warmup_ratio),
        num_training_steps=n_steps,
        scheduler_specific_kwargs=more,
    )


@contextmanager
def at_fault(section: str) -> Iterator[None]:
    """Tell the user what transformers says about the settings, such as a package that an optimizer needs."""
    try:
        yield
    except (ValueError, RuntimeError, ImportError) as error:
        raise TrainError(f"{section}: {str(error).strip().partition(chr(10))[0]}") from error
