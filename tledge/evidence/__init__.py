"""What a run's folder tells: the facts of its report, read from the artifacts of the stages that are whole."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tledge
from tledge import artifacts, tasks
from tledge.artifacts import BenchResult, ParityCase, Variant, read_json
from tledge.bench import setting
from tledge.evidence import adapted, labels, students
from tledge.evidence.curves import curve
from tledge.evidence.images import data_uri
from tledge.inputs import files as input_files
from tledge.inputs._windows import FILE as WINDOWS
from tledge.recipe import Recipe
from tledge.recipe.save import recipe_text

if TYPE_CHECKING:
    from tledge.report import Candidate, DataFacts, Facts, ImageFacts, PreprocessingFacts, TrainingFacts

LEAST_UNKNOWN = 0.01  # the share of unknown tokens from which on readers are told

__all__ = ["facts", "public_name", "variants"]


def variants(folder: Path) -> tuple[Variant, ...]:
    """The variants in a run's `quantize` folder, fp32 first."""
    return tuple(artifacts.from_dict(Variant, item) for item in read_json(folder / "variants.json"))


def public_name(backbone: str) -> str:
    """A backbone's reference without the folders of the machine that trained."""
    return Path(backbone).name if Path(backbone).is_absolute() else backbone


def facts(recipe: Recipe, folder: Path) -> Facts:
    """Everything that a report shows of a run; what a missing stage would have told is left empty."""
    from tledge.report import Facts

    task = tasks.load(recipe.task)
    metric = recipe.metric or task.METRIC
    rows = read_json(folder / "data" / "data.json")
    bench, scored = folder / "bench" / "bench.json", folder / "quantize" / "scored.json"
    benched = artifacts.from_dict(BenchResult, read_json(bench)) if bench.exists() else None
    made = tuple(_as_benched(each, benched) for each in variants(folder / "quantize"))
    told = labels.load(task.LABELS).read(task, metric, tuple(rows["labels"]), folder)
    return Facts(
        recipe=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        task=recipe.task,
        version=tledge.__version__,
        metric=metric,
        labels=tuple(rows["labels"]),
        lower_is_better=tasks.lower_is_better(task, metric),
        input_kind=task.INPUT,
        pipeline_tag=task.OPTIMUM_TASK,
        recipe_yaml=recipe_text(recipe),
        data=_data(rows, read_json(scored) if scored.exists() else {}),
        training=_training(recipe, folder),
        distillation=students.read(folder),
        adaptation=adapted.read(folder),
        variants=made,
        candidates=_candidates(folder / "quantize" / "candidates.json"),
        preprocessing=_preprocessing(folder / "export" / "preprocessing.json"),
        parity=tuple(artifacts.from_dict(ParityCase, case) for case in read_json(folder / "export" / "parity.json")),
        bench=benched,
        stage_seconds=_seconds(folder),
        warnings=(*_unknown(folder / "train" / "train.json"), *_lost(made, recipe)),
        **told,
    )


def _as_benched(variant: Variant, bench: BenchResult | None) -> Variant:
    """A variant with the latency that the benchmark gave at the same setting, which had more runs."""
    for row in bench.latencies if bench else ():
        same = bench is not None and variant.latency_at == setting(row.batch, row.sequence, row.threads, bench.provider)
        if row.candidate == variant.name and same and "p50" in row.percentiles_ms:
            return dataclasses.replace(variant, latency_ms=row.percentiles_ms["p50"])
    return variant


def _lost(variants: tuple[Variant, ...], recipe: Recipe) -> Iterator[str]:
    """What to say of the chosen variant where it loses more than the budget on the test rows."""
    from tledge.quantize.choose import limits_of, over_budget

    for variant in variants:
        if variant.chosen and (line := over_budget(variant, limits_of(recipe))):
            yield f"{line}."


def _data(rows: dict[str, Any], scored_tokens: dict[str, int]) -> DataFacts:
    from tledge.report import DataFacts

    return DataFacts(
        sources=rows["sources"],
        rows=rows["rows"],
        label_counts=rows["label_counts"],
        skipped=rows["skipped"],
        duplicates=rows["duplicates"],
        conflicts=rows["conflicts"],
        image_sides=rows.get("image_sides") or {},
        target_quantiles=rows.get("target_quantiles") or {},
        tokens=rows.get("tokens") or {},
        bytes=rows.get("bytes") or {},
        scored_tokens=scored_tokens if rows.get("tokens") else {},  # other rows are no tokens
        documents=rows.get("documents") or {},
        dropped_tokens=rows.get("dropped_tokens"),
    )


def _training(recipe: Recipe, folder: Path) -> TrainingFacts:
    from tledge.report import RateFinder, TrainingFacts

    trained = read_json(folder / "train" / "train.json")
    phases = trained["phases"]
    several = len(phases) > 1
    prepared = trained.get("input") or {}  # images alone have such settings
    return TrainingFacts(
        backbone=public_name(recipe.model.backbone),
        parameters=trained["parameters"],
        trained_parameters=trained["trained_parameters"],
        strategy=recipe.finetune.strategy,
        pooling=trained.get("pooling") or "",
        max_length=recipe.model.max_length if tasks.load(recipe.task).HAS_LENGTH else None,
        stride=recipe.stride if WINDOWS in input_files(tasks.load(recipe.task).INPUT) else None,
        seed=recipe.seed,
        seconds=sum(phase["seconds"] for phase in phases) if phases else None,
        device=phases[-1]["device"] if phases else "",
        curve=curve(phases),
        notes=_notes(trained),
        precision=phases[-1].get("precision", "") if phases else "",
        time=_time(phases),
        rows_per_second=_rows_per_second(phases),
        image=_image(prepared),
        rate_finders=tuple(
            artifacts.from_dict(RateFinder, phase["rate_finder"] | {"phase": phase["phase"] if several else ""})
            for phase in phases
            if phase.get("rate_finder")
        ),
        augmentation=_augmentation(recipe),
        contact_sheet=data_uri(folder / "train" / "contact_sheet.jpg"),
    )


def _time(phases: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Where the seconds of all phases went; runs of earlier versions did not say."""
    total: Counter[str] = Counter()
    for phase in phases:
        total.update(phase.get("time") or {})
    return dict(total)


def _rows_per_second(phases: Sequence[Mapping[str, Any]]) -> float | None:
    """How fast rows trained in the longest phase."""
    longest = max(phases, key=lambda phase: float(phase["seconds"]), default={})
    return longest.get("rows_per_second") or None


def _unknown(path: Path) -> tuple[str, ...]:
    """The share of the training texts' tokens that the vocabulary does not know, where it is a percent or more."""
    share = read_json(path).get("unknown_tokens") or 0.0
    told = f"{share:.1%} of the tokens of the training texts are unknown to the vocabulary, and alike to the model."
    return (told,) if share >= LEAST_UNKNOWN else ()


def _notes(trained: dict[str, Any]) -> tuple[str, ...]:
    """What the backbone's loading and each phase told, with the phase's name where there are several."""
    phases = trained["phases"]
    told = [(phase["phase"] if len(phases) > 1 else "", phase.get("note")) for phase in phases]
    return (*(trained.get("notes") or ()), *(f"{name}: {note}" if name else note for name, note in told if note))


def _image(settings: dict[str, Any]) -> ImageFacts | None:
    from tledge.report import ImageFacts

    if not settings:
        return None
    resize = settings.get("resize")
    listed = () if resize is None else (resize,) if isinstance(resize, int) else resize
    return artifacts.from_dict(ImageFacts, settings | {"resize": listed})


def _augmentation(recipe: Recipe) -> dict[str, float | str]:
    """The settings that differ from their defaults, with the number of cached views where there is a cache."""
    settings = recipe.finetune.augmentation
    off = type(settings)().model_dump()
    found = {key: value for key, value in settings.model_dump().items() if value != off[key]}
    if not (settings.changes_images or settings.mixes_images):
        return {}
    cached = recipe.finetune.cache and recipe.finetune.strategy != "full"
    found.pop("views", None)
    return found | ({"views": settings.views} if cached and settings.changes_images else {})


def _candidates(path: Path) -> tuple[Candidate, ...]:
    from tledge.report import Candidate

    return tuple(artifacts.from_dict(Candidate, item) for item in read_json(path)) if path.exists() else ()


def _preprocessing(path: Path) -> PreprocessingFacts | None:
    from tledge.report import PreprocessingFacts

    if not path.exists():
        return None
    found = read_json(path)
    graph = {f"graph_{key}": value for key, value in (found.get("in_graph") or {}).items()}
    return artifacts.from_dict(PreprocessingFacts, found | graph)


def _seconds(folder: Path) -> dict[str, float]:
    order = ("data", "train", "distill", "export", "quantize", "bundle", "bench", "baseline")
    paths = [folder / "stages" / f"{name}.json" for name in order]
    records = {path.stem: read_json(path) for path in paths if path.exists()}
    return {name: record["seconds"] for name, record in records.items() if "seconds" in record}
