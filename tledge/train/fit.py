"""Train one module with the Hugging Face Trainer: best epoch by the validation metric, resumable after a kill."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import (
    EarlyStoppingCallback,
    PretrainedConfig,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from tledge.artifacts import from_dict, read_json, write_json
from tledge.errors import TrainError
from tledge.progress import Progress
from tledge.recipe.schema import Training
from tledge.train.arguments import arguments, ready, settings_at_fault
from tledge.train.callbacks import Complete, Watch, last_complete
from tledge.train.learning_rate import RateFinder, range_test
from tledge.train.mix import Mixed
from tledge.train.objective import Objective
from tledge.train.plan import Plan, Scoring, Sets
from tledge.train.stored_once import stored_once


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of a learning curve; `validation_metric` is the one that picks the best epoch."""

    epoch: float
    train_loss: float | None
    validation_loss: float
    validation_metric: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """What one phase of training gave.

    `seconds` is the time of this process, so it is short after a resume. `rate_finder` is the range test that found the
    learning rate, `None` where the recipe gives it.
    """

    phase: str
    note: str
    steps: int
    best_epoch: float
    best_metric: float
    curve: tuple[Epoch, ...]
    seconds: float
    device: str
    rate_finder: RateFinder | None = None


def fit(
    module: nn.Module,
    sets: Sets,
    objective: Objective,
    scoring: Scoring,
    plan: Plan,
    settings: Training,
    *,
    progress: Progress,
    section: str = "finetune",
) -> Fitted:
    """Train a module in place and leave it with the weights of its best epoch.

    A checkpoint is kept after each epoch in the plan's folder; called again on the same folder, training goes on from
    the last whole one and gives what an undisturbed run gives.

    Args:
        module: its forward takes a batch's tensors without `labels` and gives a dict of what `objective` needs; in eval
            mode the output that `scoring` names alone, whose rows are those of the batch.
        sets: the rows.
        objective: outputs, labels and what their sum is divided by to the loss; see `supervised`.
        scoring: of the validation rows.
        plan: with `base_rate` the rates of its groups are set in place.
        settings: the recipe's section about this training.
        progress: shown by optimizer steps.
        section: the name of `settings` in the recipe, for messages.

    Raises:
        TrainError: the settings do not fit this machine, the loss is no longer a finite number, no learning rate is
            found, or the validation rows give no such metric.
    """
    folder, phase, groups, base_rate = plan.folder, plan.phase, plan.groups, plan.base_rate
    done = folder / "fitted.json"
    if done.exists():
        load_model(module, str(folder / "model.safetensors"))
        fitted = from_dict(Fitted, read_json(done))
        _scale(groups, base_rate, fitted.rate_finder)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # where a kill came before they were removed
        return fitted
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    seed(plan.seed)
    rows = sets.train if sets.mix is None else Mixed(sets.train, sets.mix)
    make_arguments = partial(
        arguments,
        settings,
        section=section,
        epochs=plan.epochs,
        metric=scoring.metric,
        lower_is_better=scoring.lower_is_better,
        random_seed=plan.seed,
        folder=folder,
        decodes=sets.decodes,
    )
    with ExitStack() as stack, _memory_at_fault(phase, settings, section), _config_kept(module), stored_once(module):
        finder = None
        if base_rate is not None:
            facts = make_arguments(learning_rate=base_rate)
            with main_first():
                finder = _found(module, rows, objective, plan, facts, settings, progress, section)
            _scale(groups, base_rate, finder)
        trainer = _trainer(
            module,
            make_arguments(learning_rate=max(group["lr"] for group in groups)),
            rows,
            sets.validation,
            objective,
            _scorer(scoring),
            groups,
            section,
        )
        for callback in (Watch(stack, progress, phase, section), Complete()):
            trainer.add_callback(callback)
        if settings.early_stopping_patience is not None:
            trainer.add_callback(EarlyStoppingCallback(settings.early_stopping_patience))
        trainer.train(resume_from_checkpoint=last_complete(folder / "checkpoints"))
    fitted = _fitted(trainer, plan, scoring, time.monotonic() - started, finder)
    if trainer.is_world_process_zero():
        save_model(module, str(folder / "model.safetensors"))
        write_json(done, fitted)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return fitted


@contextmanager
def main_first() -> Iterator[None]:
    """Run the block in the main process first, and in the others when it is done there."""
    with PartialState(cpu=not torch.cuda.is_available()).main_process_first():
        yield


def seed(value: int) -> None:
    """Seed Python, numpy and torch, and ask torch for the deterministic kernels where there is a choice."""
    set_seed(value)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # With them torch fills every new tensor before it is written to, which only finds kernels that forget to write.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _trainer(
    module: nn.Module,
    settings: TrainingArguments,
    train: Dataset[Any],
    validation: Dataset[Any],
    objective: Objective,
    metrics: Callable[[Any], dict[str, float]],
    groups: list[dict[str, Any]],
    section: str,
) -> Trainer:
    def compute_loss(outputs: Mapping[str, Tensor], labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        return objective(outputs, labels, num_items_in_batch)

    # A module that takes any keyword would otherwise be handed the loss's own arguments.
    module.accepts_loss_kwargs = False  # type: ignore[assignment]
    with settings_at_fault(section):
        trainer = Trainer(
            model=module,
            args=settings,
            train_dataset=train,
            eval_dataset=validation,
            data_collator=ready,
            compute_loss_func=compute_loss,
            compute_metrics=metrics,
            optimizers=(_optimizer(settings, section)(groups), None),
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _optimizer(settings: TrainingArguments, section: str) -> Callable[[list[dict[str, Any]]], torch.optim.Optimizer]:
    """Parameter groups to the optimizer that the recipe names, whose schedule leaves the groups themselves alone."""
    with settings_at_fault(section):
        optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(settings)
    return lambda groups: optimizer_class([dict(group) for group in groups], **options)


def _scorer(scoring: Scoring) -> Callable[[Any], dict[str, float]]:
    metric = scoring.metric

    def compute(prediction: Any) -> dict[str, float]:
        scores = scoring.score({scoring.output: np.asarray(prediction.predictions)}, np.asarray(prediction.label_ids))
        if metric not in scores:
            raise TrainError(
                f"metric: the validation rows give no {metric}, which needs rows whose labels differ; use more "
                f"validation rows, or one of {', '.join(scores)}"
            )
        return scores

    return compute


def _found(
    module: nn.Module,
    train: Dataset[Any],
    objective: Objective,
    plan: Plan,
    facts: TrainingArguments,
    settings: Training,
    progress: Progress,
    section: str,
) -> RateFinder:
    """The range test of this phase: that of the folder, so that a resumed training keeps its rate, else a new one."""
    path = plan.folder / "learning_rate.json"
    assert plan.base_rate is not None
    if path.exists():
        return from_dict(RateFinder, read_json(path))
    finder = range_test(
        module,
        train,
        objective,
        _optimizer(facts, section),
        plan.groups,
        base_rate=plan.base_rate,
        batch_size=settings.batch_size,
        workers=facts.dataloader_num_workers,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.precision == "bf16",
        random_seed=facts.seed,
        device=facts.device,
        progress=progress,
        description=f"Learning rate ({plan.phase})",
        section=section,
    )
    write_json(path, finder)
    return finder


def _scale(groups: list[dict[str, Any]], base_rate: float | None, finder: RateFinder | None) -> None:
    if base_rate is None or finder is None:
        return
    for group in groups:
        group["lr"] *= finder.suggestion / base_rate


@contextmanager
def _config_kept(module: nn.Module) -> Iterator[None]:
    """After the block a module's config is as before, whatever the Trainer wrote into it, such as a class of ours."""
    config = getattr(module, "config", None)
    settings = vars(config) if isinstance(config, PretrainedConfig) else {}
    before = dict(settings)
    try:
        yield
    finally:
        settings.clear()
        settings.update(before)


@contextmanager
def _memory_at_fault(phase: str, settings: Training, section: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainError(
            f"training ({phase}): the accelerator's memory is full with {section}.batch_size {settings.batch_size}; "
            f"lower it, and raise {section}.gradient_accumulation_steps by as much"
        ) from error


def _fitted(trainer: Trainer, plan: Plan, scoring: Scoring, seconds: float, finder: RateFinder | None) -> Fitted:
    curve: list[Epoch] = []
    train_loss: float | None = None
    for entry in trainer.state.log_history:
        if "eval_loss" in entry:
            curve.append(Epoch(entry["epoch"], train_loss, entry["eval_loss"], entry[f"eval_{scoring.metric}"]))
            train_loss = None
        elif "loss" in entry:
            train_loss = entry["loss"]
    best = (min if scoring.lower_is_better else max)(curve, key=lambda point: point.validation_metric)
    return Fitted(
        phase=plan.phase,
        note=plan.note,
        steps=trainer.state.global_step,
        best_epoch=best.epoch,
        best_metric=best.validation_metric,
        curve=tuple(curve),
        seconds=seconds,
        device=str(trainer.args.device),
        rate_finder=finder,
    )
