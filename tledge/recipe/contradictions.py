"""What is wrong between the keys of a recipe, which single keys cannot tell; each line starts with the key to mend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tledge import plugins, tasks
from tledge.errors import did_you_mean
from tledge.recipe.adaptation import Adapt
from tledge.recipe.distillation import Distill, Student
from tledge.recipe.meaningless import MEANINGLESS
from tledge.recipe.section import Section
from tledge.recipe.training import Finetune, Training

if TYPE_CHECKING:
    from tledge.recipe.schema import Recipe

DISTILLATION_LOSSES = "tledge.losses.distillation"
HARD_LABELS = "hard_labels"


def contradictions(recipe: Recipe) -> Iterator[str]:
    """One line for each contradiction in a recipe."""
    yield from _in_strategy(recipe.finetune)
    yield from _in_data(recipe)
    lists = {"data.labels": recipe.data.label_list or [], "quantize.schemes": recipe.quantize.schemes or []}
    lists["data.label_columns"] = recipe.data.label_columns or []
    for key, values in lists.items():
        twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
        if twice is not None:
            yield f"{key}: {twice!r} is there twice; name it once"
    if recipe.task in plugins.names("tledge.tasks"):  # an unknown one is told of elsewhere
        yield from _in_task(recipe, tasks.load(recipe.task))
    if recipe.distill is not None:
        yield from _in_distillation(recipe.distill)
    if recipe.adapt is not None:
        yield from _in_adaptation(recipe, recipe.adapt)


def _in_adaptation(recipe: Recipe, adapt: Adapt) -> Iterator[str]:
    if recipe.finetune.strategy in ("none", "few_shot", "zero_shot"):
        yield f"adapt: no epochs train with finetune.strategy {recipe.finetune.strategy!r}; take another, such as probe"
    if recipe.finetune.strategy == "probe" and not recipe.finetune.cache:
        yield "finetune.cache: adapt works on the cached features of a probe; set it to true, or let blocks train"
    if recipe.baseline is not None:
        yield "baseline: adapt has a comparison of its own (adapt.compare); remove the key"
    if adapt.target == recipe.data.train and adapt.where == recipe.data.where:
        yield "adapt.target: got the rows of data.train; expected rows of another domain (or adapt.where)"
    named = [adapt.method, *(adapt.compare or [])]
    if adapt.method == "auto" and adapt.compare is not None and len(set(adapt.compare)) < 2:
        yield f"adapt.compare: got {adapt.compare}, and auto has nothing to choose from; name two methods or more"
    if recipe.task in plugins.names("tledge.tasks") and not tasks.has_distributions(tasks.load(recipe.task)):
        if "self_training" in named:
            yield "adapt.method: self_training learns sure answers, and numbers are never sure; take coral"
        if adapt.method == "auto" and adapt.choose == "information":
            yield (
                f"adapt.choose: information is about labels, and {recipe.task} has none; expected source_validation or "
                "importance"
            )
    mixed = recipe.finetune.augmentation.mixes_images
    if mixed:
        yield "finetune.augmentation: mixup and cutmix blend rows of one domain; remove them, or adapt"


def _in_data(recipe: Recipe) -> Iterator[str]:
    if recipe.data.labels is not None and not recipe.data.labels:
        yield "data.labels: it is empty; name the labels, or remove the key"
    for name, texts in recipe.data.descriptions.items():
        if not texts or not all(text.strip() for text in texts):
            yield f"data.labels: {name!r} has no description; write one, such as {{Sports: games and athletes}}"
    test, validation = recipe.data.test, recipe.data.validation
    if sum(part for part in (test, validation) if isinstance(part, float)) >= 1:
        yield (
            f"data.test: test ({test}) and validation ({validation}) leave no training "
            "rows; make their sum smaller than 1"
        )
    if recipe.data.label_columns is not None:
        if "label" in recipe.data.columns:
            yield "data.label_columns: data.columns.label names another column of labels; remove one of the two"
        if recipe.task in plugins.names("tledge.tasks") and not tasks.load(recipe.task).TAKES_FLAGS:
            known = {name: tasks.load(name) for name in plugins.names("tledge.tasks")}
            inputs = known[recipe.task].INPUT
            several = [name for name, each in known.items() if each.TAKES_FLAGS and inputs == each.INPUT]
            cure = f"set task: {several[0]}" if several and known[recipe.task].LABEL_COLUMN else "remove the key"
            yield f"data.label_columns: is for several labels a row, and the task is {recipe.task}; {cure}"
    if recipe.data.shots is not None and recipe.data.unlabelled is not None:
        yield (
            "data.unlabelled: with data.shots the other training rows are the ones without a label; remove one of the "
            "two keys"
        )
    if recipe.data.unlabelled is not None and recipe.distill is None:
        yield "data.unlabelled: only a teacher gives rows without labels a target; add distill, or remove the key"


def _in_task(recipe: Recipe, task: tasks.Task) -> Iterator[str]:
    if recipe.metric is not None and recipe.metric not in task.METRICS:
        yield (
            f"metric: got {recipe.metric!r}, but {recipe.task} is judged by one of {', '.join(task.METRICS)}"
            f"{did_you_mean(recipe.metric, task.METRICS)}"
        )
    loss = recipe.finetune.loss
    if loss is not None and loss not in task.LOSSES:
        yield f"finetune.loss: got {loss!r}, but {recipe.task} trains with {' or '.join(task.LOSSES)}"
    strategy = recipe.finetune.strategy
    if strategy not in task.STRATEGIES:
        yield (
            f"finetune.strategy: got {strategy!r}, but {recipe.task} is trained by one of {', '.join(task.STRATEGIES)}"
        )
    if recipe.data.shots is not None and not tasks.has_one_label(task):
        yield f"data.shots: counts rows by their one label, which {recipe.task} does not have; remove the key"
    for scheme, why in task.NO_SCHEMES.items():
        if scheme in recipe.schemes:
            yield f"quantize.schemes: {scheme} {why}"
    yield from _meaningless(recipe, task)
    yield from _in_fresh_weights(recipe)
    yield from _in_few_shot(recipe)
    yield from _in_zero_shot(recipe)
    two_stages = recipe.model.detector == "faster_rcnn" or recipe.model.backbone.startswith("torchvision:fasterrcnn")
    if recipe.export.nms == "device" and two_stages:
        yield (
            "export.nms: got device, but Faster R-CNN has two stages, and the graph itself suppresses proposals "
            "between them; expected graph, or model.detector: fcos"
        )
    cached = recipe.finetune.cache and strategy != "full"
    yield from _in_augmentation("finetune", recipe.finetune, task, cached=cached)
    if recipe.distill is not None:
        yield from _in_augmentation("distill", recipe.distill, task, cached=recipe.distill.teacher_cache)
        student = recipe.distill.student
        if student.backbone is None and student.budget is None and not task.LAYERED:
            yield (
                f"distill.student.backbone: missing key; {recipe.task} takes another network as the student, such "
                "as torchvision:mobilenet_v3_small (or a budget)"
            )
    longest = max((length for length in recipe.bench_lengths if length is not None), default=0)
    if longest > recipe.model.max_length and not task.GENERATES:
        yield (
            f"bench.length: {longest} is more than model.max_length, {recipe.model.max_length}; "
            "the model never sees a longer text"
        )


def _meaningless(recipe: Recipe, task: tasks.Task) -> Iterator[str]:
    """Keys that are set although they mean nothing to the task; of a section those that are set in it."""
    for keys, why in MEANINGLESS[task.STARTER].items():
        path = [str(key) for key in keys]
        parent: Section | None = recipe
        for key in path[:-1]:
            parent = None if parent is None else getattr(parent, key)
        if parent is None or not why:
            continue
        found = getattr(parent, path[-1])
        inside = isinstance(found, Section)
        for name in type(found).model_fields if inside else [path[-1]]:
            owner, full = (found, [*path, name]) if inside else (parent, path)
            if getattr(owner, name) != type(owner).model_fields[name].default:
                yield f"{'.'.join(full)}: {why}, and the task is {recipe.task}; remove the key"


def _in_fresh_weights(recipe: Recipe) -> Iterator[str]:
    """What an architecture with random weights needs, and what it alone may have."""
    model, strategy = recipe.model, recipe.finetune.strategy
    if not model.backbone.startswith("fresh:"):
        if model.shape is not None:
            yield "model.shape: only for backbone fresh:TYPE; pretrained weights have their sizes; remove the key"
        return
    if model.tokenizer is None:
        yield "model.tokenizer: missing key; an architecture with random weights has no tokenizer of its own"
    if strategy != "full":
        yield f"finetune.strategy: got {strategy!r}, but random weights must all be trained; expected full"


def _in_strategy(settings: Finetune) -> Iterator[str]:
    strategy, unfreeze, freeze = settings.strategy, settings.unfreeze, settings.freeze
    if strategy == "partial" and unfreeze is None and freeze is None:
        yield (
            "finetune.unfreeze: missing key; strategy 'partial' needs the number of last blocks to train, the first "
            "one's name or a glob pattern of parameter names (or finetune.freeze: what stays frozen)"
        )
    if unfreeze is not None and freeze is not None:
        yield "finetune.freeze: say either what trains (finetune.unfreeze) or what stays frozen; remove one key"
    if strategy not in ("partial", "gradual") and unfreeze is not None:
        yield (
            f"finetune.unfreeze: only for strategy 'partial' or 'gradual', but the strategy is {strategy!r}; "
            "remove the key (or set it to null), or change finetune.strategy"
        )
    if strategy == "gradual" and isinstance(unfreeze, str):
        yield f"finetune.unfreeze: strategy 'gradual' takes a number of blocks, got {unfreeze!r}"
    if strategy != "partial" and freeze is not None:
        yield (
            f"finetune.freeze: only for strategy 'partial', but the strategy is {strategy!r}; "
            "remove the key (or set it to null), or change finetune.strategy"
        )


def _in_few_shot(recipe: Recipe) -> Iterator[str]:
    """What strategy `few_shot` cannot have, and what it alone may have."""
    settings = recipe.finetune
    if settings.strategy != "few_shot":
        if settings.few_shot != type(settings.few_shot)():
            yield f"finetune.few_shot: only for strategy few_shot, but the strategy is {settings.strategy!r}; remove it"
        return
    if recipe.model.head.hidden_size is not None:
        yield "model.head.hidden_size: strategy few_shot solves a head of one linear layer; remove the key"
    if settings.augmentation.mixes_images:
        yield "finetune.augmentation: strategy few_shot learns from pairs of whole images; set mixup and cutmix to 0"


def _in_zero_shot(recipe: Recipe) -> Iterator[str]:
    """What strategy `zero_shot` needs, and what it alone may have."""
    settings = recipe.finetune
    if settings.strategy != "zero_shot":
        if settings.zero_shot != type(settings.zero_shot)():
            yield f"finetune.zero_shot: only for strategy zero_shot, but the strategy is {settings.strategy!r}; drop it"
        return
    if not recipe.data.descriptions:
        yield (
            "data.labels: strategy zero_shot knows labels by their descriptions alone; write a mapping, such as "
            "{Sports: games and athletes, Business: companies and markets}"
        )
    methods = tasks.zero_shot_methods(tasks.load(recipe.task))
    if settings.zero_shot.method not in (None, *methods) and methods:
        yield (
            f"finetune.zero_shot.method: got {settings.zero_shot.method}, but for {recipe.task} it is "
            f"{' or '.join(methods)}; change it, or remove the key"
        )
    for template in settings.zero_shot.templates:
        if "{}" not in template:
            yield f"finetune.zero_shot.templates: {template!r} has no {{}}, where the description goes"
    if recipe.model.head.hidden_size is not None:
        yield "model.head.hidden_size: strategy zero_shot makes a head of one linear layer; remove the key"


def _in_augmentation(section: str, settings: Training, task: tasks.Task, *, cached: bool) -> Iterator[str]:
    if ("finetune", "augmentation") in MEANINGLESS[task.STARTER]:
        return
    mixed = next((key for key in ("mixup", "cutmix") if getattr(settings.augmentation, key)), None)
    if mixed is None:
        return
    if not task.MIXES:
        yield f"{section}.augmentation.{mixed}: mixes labels of rows that have one each; remove the key"
    if cached:
        switch = f"{section}.cache" if section == "finetune" else f"{section}.teacher_cache"
        kept = "features" if section == "finetune" else "answers"
        yield (
            f"{section}.augmentation.{mixed}: mixes images in every batch anew, which {kept} kept on disk cannot do; "
            f"set {switch}: false, or remove the key"
        )


def _in_distillation(settings: Distill) -> Iterator[str]:
    yield from _in_student(settings.student)
    known = [*plugins.names(DISTILLATION_LOSSES), HARD_LABELS]
    asked = settings.losses or {}
    for name in asked:
        if name not in known:
            yield (
                f"distill.losses: there is no loss {name!r}; known are {', '.join(known)}{did_you_mean(name, known)}"
            )
    if asked and not any(weight > 0 for name, weight in asked.items() if name != HARD_LABELS):
        yield "distill.losses: nothing is learnt from the teacher; give soft_targets a weight above 0"


def _in_student(student: Student) -> Iterator[str]:
    ways = [key for key in ("layers", "shape", "backbone", "budget") if getattr(student, key) is not None]
    if len(ways) > 1:
        yield f"distill.student.{ways[1]}: got {' and '.join(ways)}; a student is made in one way: keep one of them"
    if isinstance(student.layers, list):
        if not student.layers:
            yield "distill.student.layers: the list is empty; name the teacher's blocks to keep, such as [0, 2, 4]"
        elif sorted(set(student.layers)) != student.layers:
            yield f"distill.student.layers: got {student.layers}; name each block once, in rising order"
    if student.backbone is None:
        for key in ("weights", "revision"):
            if getattr(student, key) is not None:
                yield f"distill.student.{key}: is for distill.student.backbone, which is missing; remove the key"
    budget = student.budget
    if budget is not None and budget.p95_ms is None and budget.size_mb is None:
        yield "distill.student.budget: nothing is limited; give p95_ms, size_mb or both"
