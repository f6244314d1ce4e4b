"""A fresh head on a backbone, adapted to another domain: each method trained, judged, and one of them taken."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tledge import artifacts, losses, plugins, processes, significance, tasks
from tledge.artifacts import Contender, write_json
from tledge.errors import TrainError
from tledge.recipe.adaptation import METHODS
from tledge.recipe.schema import Adapt
from tledge.stages import domains
from tledge.stages.contenders import contender, gain
from tledge.stages.heads import Trained
from tledge.stages.heads.fresh import (
    Prepared,
    batches_of,
    fit_phase,
    forget_kept,
    prepared,
    prepared_phases,
)
from tledge.stages.job import Job

if TYPE_CHECKING:
    from tledge.data import Domain
    from tledge.model import Phase
    from tledge.train import Answers, Fitted, Objective

FILE = "adapt.json"
SUPERVISED = "target_labels"
"""What the training on the other domain's own labels is called."""
ADABN_IMAGES = 4096
"""Of which the statistics of batch norms are taken, at most."""
MAP_SLOWER = 10
"""By how much a map of fixed features learns slower than the head on it, as blocks of a backbone do."""
TARGET, JUDGE = "target", "judge"


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all trainings have together: the rows of the other domain by name, and what batch norms were given."""

    others: Mapping[str, Any]
    statistics: _Statistics = field(default_factory=dict)


@dataclass(slots=True)
class _Run:
    """One training: what came of it, and what it answers for rows by name."""

    made: Prepared
    fitted: list[Fitted] = field(default_factory=list)
    trained: int = 0
    answers: dict[str, Answers] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def train(job: Job, folder: Path) -> Trained:
    """Train each method for each seed, write what was found to `adapt.json`, and give the model of the one taken.

    Each training has a folder of its own, so that a stage that was killed goes on where it was.
    """
    from tledge import data

    adapt = job.recipe.adapt
    assert adapt is not None
    domain = data.open_domain(job.stage("data"))
    shared = _Shared(_others(job, domain))
    seeds = [job.recipe.seed + i for i in range(adapt.seeds)]
    candidates, named = _methods(job, adapt, prepared(job, folder, seed=seeds[0]))
    told = {
        name: [_told(job, domain, _one(job, domain, name, seed, folder, shared)) for seed in seeds] for name in named
    }
    taken = _chosen(job, adapt, candidates, told)
    if processes.is_main():
        write_json(folder / FILE, _found(job, domain, told, seeds, taken, candidates))
    run = _one(job, domain, taken, seeds[0], folder, shared)  # what it was trained to is on disk
    made = run.made.trained(job, folder, run.fitted, run.trained)
    if processes.is_main():
        for name in named:
            shutil.rmtree(folder / name)
    forget_kept(folder)
    return dataclasses.replace(made, notes=(*made.notes, *run.notes))


def _methods(job: Job, adapt: Adapt, made: Prepared) -> tuple[list[str], list[str]]:
    """The methods that one is taken from, and all that are trained, source only first.

    Raises:
        TrainError: one of those named cannot be done with this model.
    """
    impossible: dict[str, str] = {}
    candidates: list[str]
    if not _n_batch_norms(made.classifier):
        impossible["adabn"] = f"{job.recipe.model.backbone} has no batch norms; take coral"
    if not tasks.has_distributions(job.task):
        impossible["self_training"] = "numbers are never sure"
    asked: list[str] = [*([] if adapt.method == "auto" else [adapt.method]), *(adapt.compare or [])]
    for name in asked:
        if name in impossible:
            raise TrainError(f"adapt.method: {name} cannot be done here: {impossible[name]}")
    if adapt.method == "auto":
        candidates = [
            *(adapt.compare or ()),
            *(name for name in METHODS if not adapt.compare and name not in impossible),
        ]
    else:
        candidates = [adapt.method]
    named = [*candidates, *(adapt.compare or []), *([SUPERVISED] if adapt.supervised else [])]
    return candidates, list(dict.fromkeys(["none", *named]))


def _n_batch_norms(classifier: Any) -> int:
    from tledge import model

    return model.count_batch_norms(classifier.backbone)


def _one(job: Job, domain: Domain, name: str, seed: int, folder: Path, shared: _Shared) -> _Run:
    """One training by one method in a folder of its own, with its answers."""
    from tledge import model
    from tledge import train as training

    own = folder / name / str(seed)
    own.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    run = _Run(prepared(job, folder, seed=seed))
    made, classifier = run.made, run.made.classifier
    if name == "adabn":
        _retaken(made, made.train.values, shared.statistics)
        made = run.made = dataclasses.replace(made, digest=model.weights_digest(classifier.backbone))
    others = {} if name == "adabn" else shared.others  # whose rows are answered with other statistics, in the end
    for phase in prepared_phases(made.phases(job, folder, seed, others)):
        run.trained = sum(p.numel() for p in classifier.parameters() if p.requires_grad)
        last = _Last(job, made, phase, name, seed, own)
        if phase.last:
            run.fitted += last.fit(domain)
            run.notes += last.notes
            for of, columns in ({"validation": last.validation} | dict(phase.others)).items():
                run.answers[of] = last.seen(training.answers(phase.module, classifier.dropout, columns))
        else:
            sets = training.Sets(phase.train, phase.validation)
            scoring = made.scoring(job)
            run.fitted.append(
                fit_phase(job, phase, phase.module, sets, made.objective, scoring, own / phase.name, seed)
            )
    if name == "adabn":
        target = shared.others[TARGET].values
        _retaken(made, target, shared.statistics)
        with suppress(StopIteration):  # the first phase has the rows as its module takes them, cached or whole
            phase = next(made.phases(job, folder, seed, shared.others))
            for of, columns in phase.others.items():
                run.answers[of] = training.answers(phase.module, classifier.dropout, columns)
        run.notes.append(f"batch norms have the statistics of {min(len(target), ADABN_IMAGES):,} target rows")
    run.seconds = time.monotonic() - started
    return run


def _others(job: Job, domain: Domain) -> dict[str, Any]:
    """The rows of the other domain, by name; those to adapt to have no labels here."""
    from tledge import data, model

    target = data.inputs_of(domain.target, job.task)
    found = {TARGET: model.KeptRows(target, np.zeros(len(target), np.int64))}
    if domain.judge is not None:
        found[JUDGE] = model.KeptRows(data.inputs_of(domain.judge, job.task), _targets(job, domain.judge))
    return found


_Statistics = dict[tuple[str, int], dict[str, Any]]
"""What batch norms hold after some images, by the weights that saw them and how many of them there are."""


def _retaken(made: Prepared, values: Any, known: _Statistics) -> None:
    """Give the batch norms of the backbone the statistics of some images, which several seeds may share."""
    from tledge import model
    from tledge.precision import training_device

    backbone = made.classifier.backbone
    key = (model.weights_digest(backbone), len(values))
    if key not in known:
        model.update_batch_norms(backbone, batches_of(made.encoder, values, ADABN_IMAGES), training_device())
        known[key] = {name: each.clone() for name, each in backbone.named_buffers()}
    backbone.load_state_dict(known[key], strict=False)


@dataclass(slots=True)
class _Last:
    """The phase in which a method does its work: the last one."""

    job: Job
    made: Prepared
    phase: Phase
    name: str
    seed: int
    folder: Path
    notes: list[str] = field(default_factory=list)
    validation: Any = None
    maps: Any = None

    def seen(self, found: Answers) -> Answers:
        """Answers with the features that the head learnt to take, before a map was folded into it."""
        if self.maps is None:
            return found
        weight, bias = (each.detach().cpu().numpy() for each in (self.maps.weight, self.maps.bias))
        return dataclasses.replace(found, features=found.features @ weight.T + bias)

    @property
    def adapt(self) -> Adapt:
        """The recipe's settings."""
        assert self.job.recipe.adapt is not None
        return self.job.recipe.adapt

    def fit(self, domain: Domain) -> list[Fitted]:
        """Train as the method says; the phase's module then answers as it was learnt."""
        from tledge import train as training

        phase = self.phase
        self.validation = phase.validation
        if self.name == SUPERVISED:
            rows = training.labelled(phase.others[TARGET], _targets(self.job, domain.target))
            return [self._plain(training.Sets(rows, phase.validation), last=True)]
        if self.name == "coral" and not phase.moves:
            return [self._recoloured()]
        if self.name in ("coral", "dann", "mmd"):
            return [self._aligned(training.Alongside(phase.train, phase.others[TARGET]), self.name)]
        first = self._plain(training.Sets(phase.train, phase.validation))
        return [first, *self._rounds()] if self.name == "self_training" else [first]

    def _plain(self, sets: Any, *, last: bool = False) -> Fitted:
        scoring = self.made.scoring(self.job, last=last)
        return self._fit(self.phase.module, sets, self.made.objective, scoring, self.phase.name)

    def _fit(self, module: Any, sets: Any, objective: Objective, scoring: Any, name: str) -> Fitted:
        place = self.folder / name
        return fit_phase(self.job, self.phase, module, sets, objective, scoring, place, self.seed)

    def _recoloured(self) -> Fitted:
        """The head on source features that have the target's mean and covariance."""
        from tledge import train as training

        phase = self.phase
        changed = training.recoloured(phase.train, phase.others[TARGET])
        self.validation = changed(phase.validation)
        self.notes.append("source features have the covariance of the target's while the head learns (CORAL)")
        return self._plain(training.Sets(changed(phase.train), self.validation))

    def _aligned(self, rows: Any, method: str, name: str = "") -> Fitted:
        """Rows of both domains side by side; a map of fixed features is folded into the head."""
        from tledge import model
        from tledge import train as training

        phase, classifier = self.phase, self.made.classifier
        maps = not phase.moves and method != "self_training"
        aligned = training.Aligned(phase.module, classifier.dropout, method, classifier.n_features, maps=maps)
        batches = -(-len(phase.train) // self.job.recipe.finetune.batch_size)
        aligned.begin(round(phase.epochs * batches))
        rate = max(group["lr"] for group in phase.groups)
        beside = model.groups_of(aligned.domain.parameters(), rate, 0.0)
        if aligned.maps is not None:
            beside += model.groups_of(aligned.maps.parameters(), rate / MAP_SLOWER, 0.0)
        before, phase.groups[:] = list(phase.groups), [*phase.groups, *beside]
        objective = training.aligning(self.made.objective, method, self.adapt.strength)
        scoring = self.made.scoring(self.job, last=True)
        try:
            fitted = self._fit(
                aligned, training.Sets(rows, phase.validation), objective, scoring, name or self.phase.name
            )
        finally:
            aligned.restore()
            phase.groups[:] = before
        if aligned.maps is not None:
            model.put_before_head(classifier, aligned.maps)
            self.maps = aligned.maps
            self.notes.append("a linear map of the features learns with the head, and is folded into it")
        return fitted

    def _rounds(self) -> Iterator[Fitted]:
        """Learn the surest answers to target rows, as many of each label, and answer anew."""
        from tledge import train as training

        phase, task, rounds = self.phase, self.job.task, self.adapt.rounds
        self.phase = dataclasses.replace(phase, base_rate=None)  # the rates are found by now
        columns = phase.others[TARGET]
        for number in range(1, rounds + 1):
            found = training.answers(phase.module, self.made.classifier.dropout, columns)
            share = self.adapt.confident * number / rounds
            rows, answers = domains.confident(task, {"logits": found.logits}, share)
            like = _as_targets(self.made.train.targets, answers)
            chosen = training.labelled(columns, like, rows)
            yield self._aligned(
                training.Alongside(phase.train, chosen), "self_training", f"{phase.name}_round_{number}"
            )
        self.notes.append(f"{len(rows):,} of {len(columns):,} target rows are learnt with answers of their own")


def _as_targets(like: Any, answers: Any) -> Any:
    """Answers in the type of a task's targets."""
    return np.asarray(answers, dtype=np.asarray(like).dtype)


def _targets(job: Job, rows: Any) -> Any:
    from tledge import data

    return job.task.targets(rows["label"], len(data.open_splits(job.stage("data")).labels))


@dataclass(frozen=True, slots=True)
class _Told:
    """What a training gave: metrics of the rows that judge, scores that need none, and what is asked of its answers.

    `judged` are the logits of the rows that judge, and `features` those of validation and target rows.
    """

    parameters: int
    metrics: Mapping[str, float]
    scores: Mapping[str, float]
    apart: float
    judged: Any
    features: tuple[Any, Any]
    seconds: float


def _told(job: Job, domain: Domain, run: _Run) -> _Told:
    """What is kept of a training."""
    from tledge import train as training

    loss = plugins.load(losses.__name__, job.recipe.finetune.loss or job.task.LOSS).loss
    validation, target = run.answers["validation"], run.answers[TARGET]
    apart = domains.tell_apart(validation.features, target.features, seed=job.recipe.seed)
    each = training.row_losses(loss, validation.logits, run.made.validation.targets)
    scores = {
        "source_validation": run.fitted[-1].best_metric,
        "importance": float(np.average(each, weights=apart.weights)),
    }
    if tasks.has_distributions(job.task):
        scores["information"] = domains.information(tasks.distributions(job.task, {"logits": target.logits}))
    metrics, judged = {}, None
    if domain.judge is not None:
        judged = {"logits": run.answers[JUDGE].logits}
        metrics = job.task.score(job.task.records(judged, judged), _targets(job, domain.judge))
    parameters = sum(p.numel() for p in run.made.classifier.parameters())
    return _Told(
        parameters, metrics, scores, apart.accuracy, judged, (validation.features, target.features), run.seconds
    )


def _chosen(job: Job, adapt: Adapt, candidates: Sequence[str], told: Mapping[str, Sequence[_Told]]) -> str:
    """The candidate that the named score likes best, the first of equal ones."""
    if len(candidates) == 1:
        return candidates[0]
    lower = adapt.choose == "importance" or (adapt.choose == "source_validation" and job.lower_is_better)

    def score(name: str) -> float:
        found = float(np.mean([each.scores[adapt.choose] for each in told[name]]))
        return found if lower else -found

    return min(candidates, key=score)


def _found(
    job: Job,
    domain: Domain,
    told: Mapping[str, Sequence[_Told]],
    seeds: Sequence[int],
    taken: str,
    candidates: Sequence[str],
) -> dict[str, Any]:
    """What `adapt.json` holds."""
    adapt = job.recipe.adapt
    assert adapt is not None
    rows: list[dict[str, Any]] = []
    for name, each in told.items():
        row: dict[str, Any] = {
            "name": name,
            "candidate": name in candidates,
            "apart": float(np.mean([one.apart for one in each])),
            "scores": {key: float(np.mean([one.scores[key] for one in each])) for key in each[0].scores},
        }
        if domain.judge is not None:
            seconds = sum(one.seconds for one in each)
            of = contender(name, each[0].parameters, seeds, [one.metrics for one in each], seconds)
            row["contender"] = artifacts.to_dict(of)
            if name != "none":
                row |= _against_source_only(job, domain, told, name, of)
        rows.append(row)
    return {
        "method": adapt.method,
        "taken": taken,
        "choose": adapt.choose,
        "n_target": len(domain.target),
        "n_judge": None if domain.judge is None else len(domain.judge),
        "rows": rows,
        "before": domains.projection(told["none"][0].features),
        "after": [] if taken == "none" else domains.projection(told[taken][0].features),
    }


def _against_source_only(
    job: Job, domain: Domain, told: Mapping[str, Sequence[_Told]], name: str, of: Contender
) -> dict[str, Any]:
    """What a method gave over source only: seed by seed, and of the first seed row by row."""
    base = contender("none", of.parameters, of.seeds, [one.metrics for one in told["none"]], 0.0)
    found = gain(job.metric, of, base, lower_is_better=job.lower_is_better)
    targets = _targets(job, domain.judge)
    ours, theirs = told[name][0].judged, told["none"][0].judged
    paired = significance.paired(job.task, job.metric, ours, targets, theirs, targets, reference="none")
    return {"gain": artifacts.to_dict(found), "paired": artifacts.to_dict(paired)}
