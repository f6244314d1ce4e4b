"""A fresh head on a pretrained body, whose rows are examples with labels."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tledge import inputs, losses, plugins, processes
from tledge.cache import open_cache
from tledge.errors import StorageError
from tledge.inputs import Input
from tledge.stages import inputs as stage_inputs
from tledge.stages import vocabulary
from tledge.stages.heads import Trained, _few_shot, _zero_shot
from tledge.stages.job import Job
from tledge.tasks import Outputs, Task

if TYPE_CHECKING:
    from tledge.data import Splits
    from tledge.model import Phase, Rows, Source
    from tledge.stages.heads._classifier_students import ClassifierStudents
    from tledge.train import Fitted, Objective, Scoring, Sets

BATCH_NORM_IMAGES = 256
"""Training images from which a random network's normalisation statistics are taken."""
SAMPLE_ROWS = 4
"""Training rows on which a checkpoint is compared with the model that it was saved from."""
COMPARES_DIRECTIONS = ("few_shot", "zero_shot")
"""Strategies whose head takes feature vectors of length 1."""
KEPT = "features"
"""The folder of the cache that holds features and decoded images."""


def students(job: Job, folder: Path) -> ClassifierStudents:
    """How students of a classifier learn."""
    from tledge.stages.heads._classifier_students import ClassifierStudents

    return ClassifierStudents(job, folder)


def train(job: Job, folder: Path, *, pretrained: bool = True) -> Trained:
    """A fresh head on a backbone, trained; or with the strategy `none` a checkpoint as it is, its head included.

    Args:
        job: the run, whose rows are read.
        folder: takes what training resumes from.
        pretrained: `False` for the same architecture with random weights.
    """
    if job.recipe.finetune.strategy == "none":
        return _taken(job)
    return _trained(job, folder, pretrained=pretrained)


def _taken(job: Job) -> Trained:
    from tledge import data, model

    splits = data.open_splits(job.stage("data"))
    names = job.task.output_names(splits.labels)
    source = model.whole(job.recipe.model.backbone, task=job.recipe.task, labels=names)
    classifier = model.load(source)
    encoder = inputs.load(job.task.INPUT, source)
    return Trained(
        classifier,
        model.weights_digest(classifier.backbone),
        parameters=sum(p.numel() for p in classifier.parameters()),
        trained_parameters=0,
        unknown_tokens=vocabulary.unknown_share(job, encoder, data.inputs_of(splits.train, job.task)),
        save=lambda checkpoint: _copy(source, checkpoint),
        notes=["taken as it is, with its head"],
        pooling=getattr(classifier, "pooling", ""),
        input=stage_inputs.load(job.task.INPUT).facts(encoder),
    )


def _copy(source: Path, checkpoint: Path) -> None:
    shutil.copytree(source, checkpoint, dirs_exist_ok=True)


def _trained(job: Job, folder: Path, *, pretrained: bool) -> Trained:
    if job.recipe.adapt is not None:
        from tledge.stages.heads import _adapted

        return _adapted.train(job, folder)
    made = prepared(job, folder, seed=job.recipe.seed, pretrained=pretrained)
    learn, cache = learning(job), kept_in(job, folder)
    fitted, trained = learn(job, made.classifier, made.encoder, made.train, made.validation, folder, cache)
    return made.trained(job, folder, fitted, trained)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A classifier that is to be trained, with its rows, its loss and what mixes its rows."""

    classifier: Any
    backbone: Any
    encoder: Input
    train: Any
    validation: Any
    objective: Objective
    digest: str
    unknown_tokens: float | None
    mix: Any

    def scoring(self, job: Job, *, last: bool = False) -> Scoring:
        """How epochs are scored; the `last` one may count as the best."""
        from tledge import train as training

        score = scoring(job.task, self.validation)
        return training.Scoring(score, job.metric, job.lower_is_better, last=last)

    def phases(self, job: Job, folder: Path, seed: int, others: Mapping[str, Any] | None = None) -> Iterator[Phase]:
        """The phases of the recipe's strategy."""
        from tledge import model

        return model.phases(
            self.classifier,
            self.encoder,
            self.train,
            self.validation,
            job.recipe.finetune,
            seed=seed,
            cache=kept_in(job, folder),
            progress=job.progress,
            others=others,
        )

    def trained(self, job: Job, folder: Path, fitted: Sequence[Fitted], trained: int) -> Trained:
        """The classifier after its phases; `trained` counts the parameters that were."""
        from tledge import model

        def save(checkpoint: Path) -> None:
            self.classifier.save(checkpoint, self.backbone)
            model.check_saved(self.classifier, checkpoint, _sample(job, self.encoder))
            forget_inputs(folder)

        return Trained(
            self.classifier,
            self.digest,
            parameters=sum(p.numel() for p in self.classifier.parameters()),
            trained_parameters=trained,
            unknown_tokens=self.unknown_tokens,
            save=save,
            fitted=fitted,
            notes=(*getattr(self.backbone, "notes", ()), *getattr(self.backbone, "unfollowed", ())),
            pooling=getattr(self.classifier, "pooling", ""),
            input=stage_inputs.load(job.task.INPUT).facts(self.encoder),
        )


def prepared(job: Job, folder: Path, *, seed: int, pretrained: bool = True) -> Prepared:
    """A fresh head on the recipe's backbone, and the rows that it learns."""
    from tledge import batches, data, model
    from tledge.precision import training_device

    recipe = job.recipe
    splits = data.open_splits(job.stage("data"))
    backbone, classifier, encoder = begun(job, splits, folder, seed=seed, pretrained=pretrained)
    train_rows, validation_rows = (rows_of(job, split, encoder) for split in (splits.train, splits.validation))
    unknown_tokens = vocabulary.unknown_share(job, encoder, train_rows.values) if pretrained else None
    if not pretrained or recipe.model.weights == "none":
        model.update_batch_norms(
            classifier.backbone, batches_of(encoder, train_rows.values, BATCH_NORM_IMAGES), training_device()
        )
    digest = model.weights_digest(classifier.backbone)
    augmentation = recipe.finetune.augmentation
    augment = batches.Augment.of(augmentation)
    if augment is not None and pretrained and processes.is_main():
        sheet = model.contact_sheet(list(train_rows.values[:6]), encoder, augment)
        sheet.save(folder / "contact_sheet.jpg", quality=85)
    objective, mix = objective_of(job, train_rows)
    return Prepared(
        classifier,
        backbone,
        encoder,
        train_rows,
        validation_rows,
        objective,
        digest,
        unknown_tokens,
        mix,
    )


def begun(job: Job, splits: Splits, folder: Path, *, seed: int, pretrained: bool = True) -> tuple[Any, Any, Input]:
    """The backbone that a recipe names, the classifier on it before any training, and the encoder of its inputs.

    Args:
        job: the run.
        splits: its rows.
        folder: takes what the preprocessing is read from, in `inputs`.
        seed: of the head.
        pretrained: `False` for the same architecture with random weights.
    """
    from tledge import model
    from tledge import train as training

    recipe, task = job.recipe, job.task
    training.seed(seed)
    backbone = model.load_backbone(
        recipe.model.backbone,
        kind=task.BACKBONES,
        revision=recipe.model.revision,
        weights=recipe.model.weights,
        match=recipe.model.match,
        preprocessing=recipe.model.preprocessing,
        pretrained=pretrained,
    )
    train_targets = task.targets(splits.train["label"], len(splits.labels))
    classifier = fresh_classifier(job, backbone, splits.labels, train_targets)
    with training.main_first():
        if processes.is_main():
            classifier.save_inputs(folder / "inputs", backbone)
        encoder = inputs.load(task.INPUT, folder / "inputs")
    return backbone, classifier, encoder


def learning(job: Job) -> Callable[..., tuple[list[Fitted], int]]:
    """What trains a classifier in place as the recipe's strategy says; the arguments are those of `_in_phases`."""
    ways = {"few_shot": _few_shot.learn, "zero_shot": _zero_shot.learn}
    return ways.get(job.recipe.finetune.strategy, _in_phases)


def _in_phases(
    job: Job,
    classifier: Any,
    encoder: Input,
    train: Rows,
    validation: Rows,
    folder: Path,
    cache: Path,
    *,
    source: Source | None = None,
) -> tuple[list[Fitted], int]:
    """Train a classifier in place, step by step, through the phases of the strategy; gives what each gave.

    Args:
        job: the run.
        classifier: with a fresh head.
        encoder: of its inputs.
        train: rows that train.
        validation: rows that are scored after each epoch, and pick it.
        folder: takes what training resumes from.
        cache: keeps features and decoded images.
        source: where batches come from; by default the model's own.
    """
    from tledge import model
    from tledge import train as training

    objective, mix = objective_of(job, train)
    phases = model.phases(
        classifier,
        encoder,
        train,
        validation,
        job.recipe.finetune,
        seed=job.recipe.seed,
        cache=cache,
        progress=job.progress,
        source=source,
    )
    score = training.Scoring(scoring(job.task, validation), job.metric, job.lower_is_better)
    return fit_phases(job, phases, objective, score, folder, model=classifier, mix=mix)


def objective_of(job: Job, train: Rows) -> tuple[Objective, Any]:
    """The recipe's loss for some rows, and what mixes them, if anything."""
    from tledge import data
    from tledge import train as training

    recipe, task = job.recipe, job.task
    labels, augmentation = data.open_splits(job.stage("data")).labels, recipe.finetune.augmentation
    weights = training.label_weights(
        recipe.finetune.class_weights,
        train.counted,
        task.output_names(labels),
        task.target_scale(train.targets),
    )
    objective = training.supervised(
        plugins.load(losses.__name__, recipe.finetune.loss or task.LOSS).loss,
        label_weights=weights,
        label_smoothing=recipe.finetune.label_smoothing,
        mixed=augmentation.mixes_images,
    )
    return objective, training.Mix(augmentation, len(labels)) if augmentation.mixes_images else None


def rows_of(job: Job, split: Any, encoder: Input) -> Any:
    """The rows of a split as those of a training."""
    from tledge import data

    task, labels = job.task, data.open_splits(job.stage("data")).labels
    targets = task.targets(split["label"], len(labels))
    return stage_inputs.load(task.INPUT).rows(job, encoder, data.inputs_of(split, task), targets)


def scoring(task: Task, rows: Any) -> Callable[..., dict[str, float]]:
    """How a model's outputs on the rows of a training, which may be parts of values, are scored by value."""

    def score(outputs: Outputs, labels: Any) -> dict[str, float]:  # noqa: ARG001
        whole = rows.joined(outputs)
        return task.score(task.records(whole, whole), rows.targets)

    return score


def fit_phases(
    job: Job,
    phases: Iterator[Phase],
    objective: Objective,
    scoring: Scoring,
    folder: Path,
    *,
    model: Any,
    mix: Any = None,
    as_rows: Callable[[Any], Any] = lambda module: module,
) -> tuple[list[Fitted], int]:
    """Train each phase of a strategy when the one before it is done; gives what each gave, and the trained parameters.

    Args:
        job: the run.
        phases: the strategy's.
        objective: the loss.
        scoring: of the validation rows.
        folder: takes what training resumes from.
        model: whose phases they are.
        mix: what mixes training rows.
        as_rows: makes of a phase's module the one that takes whole rows.
    """
    from tledge import train as training

    fitted, trained = [], 0
    for phase in prepared_phases(phases):
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        sets = training.Sets(phase.train, phase.validation, mix)
        fitted.append(fit_phase(job, phase, as_rows(phase.module), sets, objective, scoring, folder / phase.name))
    forget_kept(folder)
    return fitted, trained


def prepared_phases(phases: Iterator[Phase]) -> Iterator[Phase]:
    """The phases, each prepared by one of several processes, which fills the cache, before the others read it."""
    from tledge import train as training

    while True:
        with training.main_first():
            phase = next(phases, None)
        if phase is None:
            return
        yield phase


def fit_phase(
    job: Job,
    phase: Phase,
    module: Any,
    sets: Sets,
    objective: Objective,
    scoring: Scoring,
    folder: Path,
    seed: int | None = None,
) -> Fitted:
    """Train a module as a phase says, in a folder of its own; the seed is the recipe's unless there is another."""
    from tledge import train as training

    plan = training.Plan(
        phase.name,
        phase.note,
        folder,
        phase.groups,
        phase.epochs,
        job.recipe.seed if seed is None else seed,
        phase.base_rate,
    )
    return training.fit(module, sets, objective, scoring, plan, job.recipe.finetune, progress=job.progress)


def forget_kept(folder: Path) -> None:
    """Remove the features that were kept for this training alone."""
    if processes.is_main():
        shutil.rmtree(folder / KEPT, ignore_errors=True)


def forget_inputs(folder: Path) -> None:
    """Remove what the preprocessing was read from, which the checkpoint has too."""
    shutil.rmtree(folder / "inputs")


def kept_in(job: Job, folder: Path) -> Path:
    """Where features and decoded images are kept: in the cache folder, or without one in the stage's."""
    try:
        return open_cache(KEPT)
    except StorageError as error:
        job.say(f"train: {error}; until then features are kept for this training alone")
        return folder / KEPT


def fresh_classifier(job: Job, backbone: Any, labels: tuple[str, ...], targets: Any) -> Any:
    """A backbone with the fresh head that a recipe describes; `targets` are those of the training rows."""
    from tledge import model

    recipe, task = job.recipe, job.task
    own_pooling = getattr(backbone, "pooling", "mean")  # images have none
    return model.build(
        backbone,
        task=recipe.task,
        problem_type=task.PROBLEM_TYPE,
        optimum_task=task.OPTIMUM_TASK,
        labels=task.output_names(labels),
        pooling="none" if task.PER_TOKEN else own_pooling if recipe.model.pooling == "auto" else recipe.model.pooling,
        windows=stage_inputs.load(task.INPUT).windows(job),
        max_length=recipe.model.max_length,
        dropout_prob=recipe.model.head.dropout_prob,
        head_hidden_size=recipe.model.head.hidden_size,
        target_scale=task.target_scale(targets),
        head_normalize=recipe.finetune.strategy in COMPARES_DIRECTIONS,
    )


def batches_of(encoder: Input, values: Any, most: int) -> Any:
    """Some images in batches, in the order of the rows."""
    from tledge import model

    count = min(most, len(values))
    columns = model.read(encoder, [values[i] for i in range(count)])
    for start in range(0, count, 32):
        yield columns.batch(range(start, min(start + 32, count)))


def _sample(job: Job, encoder: Input) -> Any:
    """A few training rows as the model takes them."""
    from tledge import data

    values = data.inputs_of(data.open_splits(job.stage("data")).train, job.task)
    return encoder.encode(list(values[:SAMPLE_ROWS]))
