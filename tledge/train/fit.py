"""Train one module: best epoch by the validation metric, resumable after a kill."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import nn

from tledge.artifacts import from_dict, read_json, write_json
from tledge.errors import TrainError
from tledge.precision import training_device
from tledge.progress import Progress
from tledge.recipe.schema import Training
from tledge.train import settings as names
from tledge.train.learning_rate import RateFinder, range_test
from tledge.train.loop import Loop
from tledge.train.objective import Objective
from tledge.train.plan import Epoch, Plan, Scoring, Sets
from tledge.train.resume import changing, put_back, remove


@dataclass(frozen=True, slots=True)
class Fitted:
    """What one phase of training gave.

    `seconds` is the time of this process, so it is short after a resume; `time` says where that of the whole training
    went, by part (`tledge.train.clock.PARTS`), and `rows_per_second` are those trained in it. `precision` is that of
    the steps. `rate_finder` is the range test that found the learning rate, `None` where the recipe gives it.
    """

    phase: str
    note: str
    steps: int
    best_epoch: float
    best_metric: float
    curve: tuple[Epoch, ...]
    seconds: float
    device: str
    precision: str = "fp32"
    time: dict[str, float] = field(default_factory=dict)
    rows_per_second: float = 0.0
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

    A checkpoint is kept each minute and after better epochs in the plan's folder; called again on the same folder,
    training goes on from it and gives what an undisturbed run gives.

    Args:
        module: its forward takes a batch's tensors without `labels` and gives a dict of what `objective` needs; in eval
            mode the output that `scoring` names alone, whose rows are those of the batch.
        sets: the rows.
        objective: outputs, labels and what their sum is divided by to the loss; see `supervised`.
        scoring: of the validation rows.
        plan: with `base_rate` the rates of its groups are set in place.
        settings: the recipe's section about this training.
        progress: shown by rows.
        section: the name of `settings` in the recipe, for messages.

    Raises:
        TrainError: the settings do not fit this machine, the loss is no longer a finite number, no learning rate is
            found, or the validation rows give no such metric.
    """
    folder, groups, base_rate = plan.folder, plan.groups, plan.base_rate
    done, weights = folder / "fitted.json", folder / "weights.safetensors"
    if done.exists() and weights.exists():
        put_back(module, load_file(weights))
        fitted = from_dict(Fitted, read_json(done))
        _scale(groups, base_rate, fitted.rate_finder)
        remove(folder)  # what a kill has left that came before
        return fitted
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    names.check(settings, section)
    seed(plan.seed)
    finder = None
    with _memory_at_fault(plan.phase, settings, section), _arithmetic(settings):
        if base_rate is not None:
            with main_first():
                finder = _found(module, sets, objective, plan, settings, progress, section)
            _scale(groups, base_rate, finder)
        loop = Loop(module, sets, objective, scoring, plan, settings, section)
        loop.run(progress)
    curve = loop.progressed.curve
    best = curve[scoring.best([point.validation_metric for point in curve])]
    fitted = Fitted(
        phase=plan.phase,
        note="; ".join(filter(None, (plan.note, loop.note))),
        steps=loop.progressed.step,
        best_epoch=best.epoch,
        best_metric=best.validation_metric,
        curve=tuple(curve),
        seconds=time.monotonic() - started,
        device=str(loop.device),
        precision=loop.precision,
        time=loop.clock.seconds,
        rows_per_second=loop.rows_per_second,
        rate_finder=finder,
    )
    if loop.accelerator.is_main_process:
        save_file({name: each.cpu().contiguous().clone() for name, each in changing(module).items()}, weights)
        write_json(done, fitted)
        remove(folder)
    return fitted


@contextmanager
def main_first() -> Iterator[None]:
    """Run the block in the main process first, and in the others when it is done there."""
    with PartialState(cpu=training_device().type == "cpu").main_process_first():
        yield


def seed(value: int) -> None:
    """Seed Python, numpy and torch, and ask torch for the deterministic kernels where there is a choice."""
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # With them torch fills every new tensor before it is written to, which only finds kernels that forget to write.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _found(
    module: nn.Module,
    sets: Sets,
    objective: Objective,
    plan: Plan,
    settings: Training,
    progress: Progress,
    section: str,
) -> RateFinder:
    """The range test of this phase: that of the folder, so that a resumed training keeps its rate, else a new one."""
    path = plan.folder / "learning_rate.json"
    if path.exists():
        return from_dict(RateFinder, read_json(path))
    finder = range_test(module, sets, objective, plan, settings, progress=progress, section=section)
    write_json(path, finder)
    return finder


def _scale(groups: list[dict[str, Any]], base_rate: float | None, finder: RateFinder | None) -> None:
    if base_rate is None or finder is None:
        return
    for group in groups:
        group["lr"] *= finder.suggestion / base_rate


@contextmanager
def _arithmetic(settings: Training) -> Iterator[None]:
    """A GPU's arithmetic for the block, and what it was before after it.

    Products of float32 are rounded to TF32 as the recipe says. cuDNN's attention is off: it makes a plan for each
    shape of batch, which takes a tenth of a second.
    """
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    planned = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = settings.tf32
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before
        torch.backends.cuda.enable_cudnn_sdp(planned)


@contextmanager
def _memory_at_fault(phase: str, settings: Training, section: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainError(
            f"training ({phase}): the accelerator's memory is full with {section}.batch_size {settings.batch_size}; "
            f"lower it, and raise {section}.gradient_accumulation_steps by as much"
        ) from error
