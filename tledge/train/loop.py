"""The training loop: one for all tasks and phases, on one device or on several processes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn

from tledge.batches import Columns
from tledge.errors import TrainError
from tledge.evaluate import joined
from tledge.precision import autocast, resolved
from tledge.progress import Advance, Progress
from tledge.recipe.schema import Training
from tledge.train import settings as names
from tledge.train.captured import Captured, can_capture, set_capturable
from tledge.train.clock import Clock
from tledge.train.feed import Batch, feed, worth_ahead
from tledge.train.mix import Mixed
from tledge.train.objective import Objective
from tledge.train.order import Numbers, by_length, epoch_order, share_of
from tledge.train.plan import Epoch, Plan, Scoring, Sets
from tledge.train.resume import Checkpoints, changing, put_back, random_state, set_random_state

SCORED = {"cuda": 256, "cpu": 64}
"""Rows that are scored together at least; images keep to the training's batch size, since they fill the memory."""
SHOWN_EVERY_S = 0.1
"""Between two steps of the progress bar."""


@dataclass(slots=True)
class Progressed:
    """How far a training is: optimizer steps, those at the last scoring, the sum of the losses since, and the curve.

    `seconds` are those of all steps, and `rows` the rows that trained in them.
    """

    step: int = 0
    scored_at: int = 0
    loss_sum: float = 0.0
    curve: list[Epoch] = field(default_factory=list)
    seconds: float = 0.0
    rows: int = 0


class Loop:
    """One training; see `fit` for the arguments, and for what it may raise."""

    def __init__(
        self,
        module: nn.Module,
        sets: Sets,
        objective: Objective,
        scoring: Scoring,
        plan: Plan,
        settings: Training,
        section: str,
    ) -> None:
        self.scoring, self.plan, self.settings, self.section = scoring, plan, settings, section
        self.objective, self.module = objective, module
        self._optimizer = names.optimizer(settings, section, plan.groups)  # first, since it sets accelerate back
        self.accelerator = names.accelerator(settings, section, plan.folder)
        self.device = self.accelerator.device
        self.precision = resolved(settings.precision, self.device)
        self.progressed, self.clock = Progressed(), Clock(self.device)
        self.checkpoints = Checkpoints(plan.folder)
        self._model = self.accelerator.prepare_model(module)
        self._train = (sets.train if sets.mix is None else Mixed(sets.train, sets.mix)).on(self.device)
        self._validation = sets.validation.on(self.device)
        self._parameters = [each for each in module.parameters() if each.requires_grad]
        size = settings.batch_size * self.accelerator.num_processes
        n_batches = math.ceil(len(self._train) / size)
        self._steps_per_epoch = math.ceil(n_batches / settings.gradient_accumulation_steps)
        self.n_steps = max(1, math.ceil(plan.epochs * self._steps_per_epoch))
        self._schedule = names.schedule(
            settings, self._optimizer, self.n_steps, lower_is_better=scoring.lower_is_better
        )
        self._scaler = torch.amp.GradScaler(self.device.type) if self.precision == "fp16" else None
        self._best: dict[str, Tensor] = {}
        self._loss_sum = torch.zeros((), device=self.device)
        self._began = 0.0
        self._note = ""
        self._captured = self._capture() if settings.compile == "auto" else None
        self._step = self._captured or self._one_batch

    def _capture(self) -> Captured | None:
        """What runs the steps as CUDA graphs, where they can."""
        if self.device.type != "cuda" or self._scaler is not None or self._several:
            return None
        if not can_capture(self._optimizer):
            self._note = f"steps run one kernel at a time: {self.settings.optimizer} cannot move weights in CUDA graphs"
            return None
        set_capturable(self._optimizer, True)
        return Captured(self._one_batch, self.module, self._optimizer, self.precision)

    @property
    def note(self) -> str:
        """How the steps ran, for the report, where there is something to say."""
        return self._note if self._captured is None else self._captured.note

    @property
    def rows_per_second(self) -> float:
        """Rows that were trained, by the time that training took without scoring and files."""
        return self.progressed.rows / max(self.progressed.seconds, 1e-9)

    def run(self, progress: Progress) -> None:
        """Train, and leave the module with the weights of its best epoch."""
        self._take_up()
        done, is_main = self.progressed, self.accelerator.is_main_process
        n_rows = math.ceil(len(self._train) * self.n_steps / self._steps_per_epoch)
        shown = progress(f"Training ({self.plan.phase})", n_rows) if is_main else nullcontext(_nothing)
        with self.checkpoints, shown as advance:
            advance(done.rows)
            self.accelerator.init_trackers("tledge")
            while done.step < self.n_steps and not self._stops():
                self._began = time.perf_counter()
                self._epoch(advance)
                self.clock.settle()
                self._pause()
                self._score()
            for tracker in self.accelerator.trackers:  # its own end would also part the processes
                tracker.finish()
        put_back(self.module, self._best)
        self.module.eval()

    def _pause(self) -> None:
        """Count the seconds of the steps so far."""
        now = time.perf_counter()
        self.progressed.seconds += now - self._began
        self._began = now

    @property
    def _several(self) -> bool:
        return self.accelerator.num_processes > 1

    def _epoch(self, advance: Advance) -> None:
        """The steps of one epoch, from where it was left."""
        done, accumulated = self.progressed, self.settings.gradient_accumulation_steps
        number, first = divmod(done.step, self._steps_per_epoch)
        last = min(self._steps_per_epoch, self.n_steps - number * self._steps_per_epoch)
        order = self._order(number)[first * accumulated : last * accumulated]
        self._model.train()
        columns = self._train.at((self.n_steps - number * self._steps_per_epoch) / self._steps_per_epoch)
        batches = self._fed(columns, order, number * self._steps_per_epoch * accumulated + first * accumulated)
        shown, rows = time.monotonic(), 0
        self.clock.begin()
        for start in range(0, len(order), accumulated):
            parts = order[start : start + accumulated]
            self._one_step(batches, parts)
            done.step += 1
            rows += sum(map(len, parts))
            done.rows += sum(map(len, parts))
            now = time.monotonic()
            if now - shown >= SHOWN_EVERY_S:
                advance(rows)
                shown, rows = now, 0
            if start + accumulated < len(order) and not self._several and self.checkpoints.due():
                self._pause()
                self._keep()
        advance(rows)

    def _one_step(self, batches: Iterator[Batch], parts: list[Numbers]) -> None:
        """One optimizer step: the gradients of its batches, clipped, move the weights."""
        world = self.accelerator.num_processes
        rows = sum(-(-len(part) // world) * world for part in parts)
        counted = self._counted(parts)
        for i in range(len(parts)):
            batch = next(batches)
            self.clock.lap("data")
            labels = batch["labels"]
            n_items = counted or rows * (labels.numel() // len(labels))
            first, last = i == 0, i + 1 == len(parts)
            with self.accelerator.no_sync(self._model) if self._several and not last else nullcontext():
                self._loss_sum += self._step(batch, n_items, first, last)
            if self._captured is not None:
                self.clock.lap("captured")
        if not isinstance(self._schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self._schedule.step()
        self.clock.lap("optimizer")

    def _counted(self, parts: list[Numbers]) -> int | None:
        """The labels that count in some batches of all processes; `None` where each label does."""
        of = self._train.counted
        if of is None:
            return None
        world = self.accelerator.num_processes
        return max(1, sum(int(of[share_of(part, i, world)].sum()) for part in parts for i in range(world)))

    def _one_batch(self, batch: Batch, n_items: int, first: bool, last: bool) -> Tensor:
        """The loss of one batch of an optimizer step; the last one's clipped gradients move the weights."""
        lap = self.clock.lap if self._captured is None else _untold
        if first:
            self._optimizer.zero_grad(set_to_none=self._captured is None)
        inputs = {name: each for name, each in batch.items() if name != "labels"}
        with autocast(self.precision, self.device):
            loss = self.objective(self._model(**inputs), batch["labels"], n_items)
        if self._several:
            loss = loss * self.accelerator.num_processes  # whose gradients are averaged over the processes
        lap("forward")
        torch.autograd.backward(loss if self._scaler is None else self._scaler.scale(loss))
        lap("backward")
        if last:
            self._move()
            lap("optimizer")
        return loss.detach()

    def _move(self) -> None:
        """Clip the gradients and move the weights."""
        if self._scaler is not None:
            self._scaler.unscale_(self._optimizer)
        nn.utils.clip_grad_norm_(self._parameters, self.settings.max_grad_norm)
        if self._scaler is None:
            self._optimizer.step()
        else:
            self._scaler.step(self._optimizer)
            self._scaler.update()

    def _order(self, epoch: int) -> list[Numbers]:
        size = self.settings.batch_size * self.accelerator.num_processes
        return epoch_order(len(self._train), self._train.lengths, size, seed=self.plan.seed, epoch=epoch)

    def _fed(self, columns: Columns, order: list[Numbers], first: int) -> Iterator[Batch]:
        """The batches of this process; the seed of each follows from its place in the training."""
        world, me = self.accelerator.num_processes, self.accelerator.process_index
        numbered = ((share_of(rows, me, world), self._seed(first + i)) for i, rows in enumerate(order))
        ahead = worth_ahead(columns, self.device, self.settings.workers)
        return feed(columns, numbered, self.device, ahead=ahead)

    def _seed(self, batch: int) -> int:
        place = batch * self.accelerator.num_processes + self.accelerator.process_index
        return (self.plan.seed * 1_000_003 + place) % 2**31

    def _score(self) -> None:
        """Score the validation rows after an epoch; the weights are kept if they are the best so far."""
        done = self.progressed
        train_loss = float(self.accelerator.reduce(self._loss_sum, "mean")) / (done.step - done.scored_at)
        epoch = done.step / self._steps_per_epoch
        self._finite("loss", train_loss, epoch)
        with self.clock.part("scoring"):
            loss, metrics = self._validated()
        self._finite("eval_loss", loss, epoch)
        value = metrics.get(self.scoring.metric)
        if value is None:
            raise TrainError(
                f"metric: the validation rows give no {self.scoring.metric}, which needs rows whose labels differ; use "
                f"more validation rows, or one of {', '.join(metrics)}"
            )
        done.curve.append(Epoch(epoch, train_loss, loss, value))
        better = self._epochs_since_the_best() == 0
        done.scored_at = done.step
        self._loss_sum.zero_()
        if isinstance(self._schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self._schedule.step(value)
        with self.clock.part("files"):
            if better:
                self._best = {name: each.clone() for name, each in changing(self.module).items()}
            rate = max(map(float, self._schedule.get_last_lr()))
            logs = {"train/loss": train_loss, "eval/loss": loss, "learning_rate": rate}
            logs |= {f"eval/{name}": each for name, each in metrics.items()}
            self.accelerator.log(logs, step=done.step)
            if done.step < self.n_steps and self._due(better):
                self._keep()

    def _validated(self) -> tuple[float, dict[str, float]]:
        """The mean loss over the validation rows, and their metrics."""
        size = self.settings.batch_size
        if not self._validation.large:
            size = max(size, SCORED.get(self.device.type, SCORED["cpu"]))
        world, me = self.accelerator.num_processes, self.accelerator.process_index
        batches = by_length(len(self._validation), self._validation.lengths, size)[me::world]
        self._model.eval()
        outputs: list[Tensor] = []
        targets: list[Tensor] = []
        losses: list[Tensor] = []
        counted = self._validation.counted
        ahead = worth_ahead(self._validation, self.device, self.settings.workers)
        with torch.no_grad():
            for batch in feed(self._validation, ((rows, 0) for rows in batches), self.device, ahead=ahead):
                labels = batch.pop("labels")
                with autocast(self.precision, self.device):
                    answer = self.module(**batch)
                    loss = self.objective(answer, labels, None).float()
                losses.append(loss * (len(labels) if counted is None else (labels >= 0).sum()))
                outputs.append(answer[self.scoring.output].float())
                targets.append(labels)
        found: list[Any] = []
        if batches:
            found = [(np.concatenate(batches), _numpy(outputs), _numpy(targets), float(sum(losses)))]
        if self._several:
            found = gather_object(found)
        rows = np.argsort(np.concatenate([each[0] for each in found]))
        answers, wanted = (joined([each[i] for each in found])[rows] for i in (1, 2))
        n_items = len(rows) if counted is None else max(1, int(counted.sum()))
        return sum(each[3] for each in found) / n_items, self.scoring.score({self.scoring.output: answers}, wanted)

    def _take_up(self) -> None:
        """Go on from the checkpoint, where there is one."""
        found = self.checkpoints.read()
        if found is None:
            return
        done = dict(found["progressed"])
        self.progressed = Progressed(**done | {"curve": [Epoch(**each) for each in done["curve"]]})
        self.clock.seconds.update(found["time"])
        put_back(self.module, found["weights"])
        self._best = {name: each.to(self.device) for name, each in found["best"].items()}
        self._optimizer.load_state_dict(found["optimizer"])
        if can_capture(self._optimizer):  # it may have been kept on another device
            set_capturable(self._optimizer, self._captured is not None)
        self._schedule.load_state_dict(found["schedule"])
        if self._scaler is not None:
            self._scaler.load_state_dict(found["scaler"])
        self._loss_sum += self.progressed.loss_sum
        set_random_state(found["random"][self.accelerator.process_index])

    def _keep(self) -> None:
        """Write what a resume needs, in a thread."""
        states = gather_object([random_state()]) if self._several else [random_state()]
        if not self.accelerator.is_main_process:
            return
        self.progressed.loss_sum = float(self._loss_sum)
        self.checkpoints.write(
            {
                "progressed": asdict(self.progressed),
                "time": self.clock.seconds,
                "weights": changing(self.module),
                "best": self._best,
                "optimizer": self._optimizer.state_dict(),
                "schedule": self._schedule.state_dict(),
                "scaler": None if self._scaler is None else self._scaler.state_dict(),
                "random": states,
            },
            step=self.progressed.step,
            of=self.n_steps,
        )

    def _due(self, better: bool) -> bool:
        """Whether to write a checkpoint after an epoch; of several processes the first one decides."""
        decision = [self.checkpoints.due(better=better)]
        if self._several:
            broadcast_object_list(decision)
        return decision[0]

    def _epochs_since_the_best(self) -> int:
        values = [each.validation_metric for each in self.progressed.curve]
        return len(values) - 1 - self.scoring.best(values)

    def _stops(self) -> bool:
        """Whether so many epochs in a row were no better than the best before them that training is to end."""
        patience = self.settings.early_stopping_patience
        return patience is not None and bool(self.progressed.curve) and self._epochs_since_the_best() >= patience

    def _finite(self, name: str, value: float, epoch: float) -> None:
        if not math.isfinite(value):
            raise TrainError(
                f"training ({self.plan.phase}): {name} is {value} in epoch {epoch:.2f}; expected a finite number: "
                f"lower {self.section}.learning_rate, or use precision bf16 or fp32"
            )


def _numpy(parts: list[Tensor]) -> Any:
    """The rows of all batches; where their second axis differs, which is that of tokens, it is padded."""
    if len({part.shape[1:] for part in parts}) > 1:
        return joined([part.cpu().numpy() for part in parts])
    return torch.cat(parts).cpu().numpy()


def _nothing(count: int) -> None:
    """Only the first of several processes shows progress."""


def _untold(part: str) -> None:
    """A graph is one part."""
