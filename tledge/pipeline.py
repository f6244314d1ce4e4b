"""The order of the rooms: one stage after another on one run folder, each whole or not there at all.

A stage writes into `STAGE.partial` and is renamed to `STAGE` when it is whole. `stages/STAGE.json` holds its key: the
hash of the recipe's sections that it depends on and of the stage before it. A stage whose key still holds is not run
again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import numpy as np

import tledge
from tledge import artifacts, inputs, noise, tasks
from tledge.artifacts import Graph, LatencyRatio, Variant, read_json, write_json
from tledge.errors import MissingExtraError, TledgeError
from tledge.evaluate import Evaluation, Run, score
from tledge.progress import Progress, silent
from tledge.recipe import Recipe, load_recipe, save_recipe

STAGES = ("data", "train", "export", "quantize", "bundle", "bench", "report")

# The recipe's sections that each stage depends on, beside the stage before it.
_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "data": ("task", "seed", "data"),
    "train": ("model", "finetune"),
    "export": ("export",),
    "quantize": ("quantize", "budget", "bench"),
    "bundle": ("name", "bundle"),
    "bench": (),
    "report": (),
}
_RESUMES = frozenset({"train"})  # stages that go on inside their half-written folder

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One run: its recipe, its folder, and who is told about progress."""

    recipe: Recipe
    folder: Path
    progress: Progress = silent
    say: Say = field(default=lambda line: None)

    def stage(self, name: str) -> Path:
        """The folder of a whole stage."""
        return self.folder / name


def run(
    recipe: Recipe | str | Path,
    out: str | Path | None = None,
    *,
    until: str = STAGES[-1],
    progress: Progress = silent,
    say: Say | None = None,
) -> Path:
    """Run the stages of a recipe, or go on with a run, and give the run folder.

    Args:
        recipe: a recipe, or the path of one.
        out: the run folder; `runs/NAME` by default.
        until: the last stage to run.
        progress: shows bars.
        say: takes one line for each stage.

    Raises:
        TledgeError: the one that names what the user can mend.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError.of(error, "train") from error
    from tledge.train.processes import is_main

    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    folder = Path(out) if out is not None else Path("runs") / recipe.name
    job = Job(recipe, folder, progress, say or (lambda line: None))
    if is_main():
        folder.mkdir(parents=True, exist_ok=True)
        save_recipe(recipe, folder / "recipe.yaml")
    key = ""
    for name in STAGES[: STAGES.index(until) + 1]:
        key = _key(name, recipe, key)
        if not is_main() and STAGES.index(name) > STAGES.index("train"):
            break
        _run_stage(job, name, key)
    return folder


def _run_stage(job: Job, name: str, key: str) -> None:
    from tledge.train.processes import is_main, main_first

    aside = job.folder / f"{name}.partial"
    with main_first():
        if _is_whole(job, name, key):
            job.say(f"{name}: already done")
            return
        if is_main():
            _prepare(job, name, key)
        started = time.monotonic()
        if name != "train":
            line = _build(job, name, aside)
            _finish(job, name, key, time.monotonic() - started, line)
            return
    line = _build(job, name, aside)
    if is_main():
        _finish(job, name, key, time.monotonic() - started, line)


def _build(job: Job, name: str, aside: Path) -> str:
    with _log(job, name) as log, noise.to(log):
        try:
            return _BUILD[name](job, aside)
        except TledgeError as error:
            log.write(f"{type(error).__name__}: {error}\n")
            raise


def _is_whole(job: Job, name: str, key: str) -> bool:
    """A stage is whole when nothing is half-written beside it and it was made for this key."""
    return (
        job.stage(name).exists()
        and not (job.folder / f"{name}.partial").exists()
        and _record(job, name).get("key") == key
    )


def _record(job: Job, name: str) -> dict[str, Any]:
    path = job.folder / "stages" / f"{name}.json"
    return dict(read_json(path)) if path.exists() else {}


def _prepare(job: Job, name: str, key: str) -> None:
    """An empty folder to write into; for a stage that resumes, the half-written one if it was made for this key."""
    aside = job.folder / f"{name}.partial"
    if not (name in _RESUMES and aside.exists() and _record(job, name).get("key") == key):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
    (job.folder / "stages").mkdir(exist_ok=True)
    write_json(job.folder / "stages" / f"{name}.json", {"key": key})


def _finish(job: Job, name: str, key: str, seconds: float, line: str) -> None:
    home, aside = job.stage(name), job.folder / f"{name}.partial"
    record = {"key": key, "seconds": round(seconds, 1), "tledge": tledge.__version__}
    write_json(job.folder / "stages" / f"{name}.json", record)
    shutil.rmtree(home, ignore_errors=True)
    os.replace(aside, home)
    job.say(f"{name}: {line} ({seconds:.1f} s)")


def _key(name: str, recipe: Recipe, before: str) -> str:
    """Hash of what a stage depends on: sections of the recipe, the files they name, and the stage before it."""
    whole = recipe.model_dump(mode="json")
    parts: list[Any] = [name, before, [whole[section] for section in _SECTIONS[name]]]
    if name == "data":
        parts.append([_stamp(source) for source in (recipe.data.train, recipe.data.validation, recipe.data.test)])
    if name == "train":
        parts.append(_stamp(recipe.model.backbone))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _stamp(source: object) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the local files behind a source; empty for hub ids, fractions and packages."""
    path = Path(str(source))
    if not path.exists():
        return []
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    return [(p.name, (stat := p.stat()).st_size, stat.st_mtime_ns) for p in files]


@contextmanager
def _log(job: Job, name: str) -> Iterator[TextIO]:
    path = job.folder / "logs" / f"{name}.log"
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as log:
        log.write(f"--- {datetime.now(UTC).isoformat(timespec='seconds')} tledge {tledge.__version__}\n")
        yield log


def cache_folder() -> Path:
    """Where features are kept between runs: `$TLEDGE_CACHE`, else `tledge` in the user's cache folder."""
    if named := os.environ.get("TLEDGE_CACHE"):
        return Path(named)
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "tledge" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tledge"


# The stages: each takes the job and the folder to write into, and gives one line about what came out.


def _data(job: Job, folder: Path) -> str:
    from tledge import data

    task = tasks.load(job.recipe.task)
    splits = data.load(
        job.recipe.data, task, seed=job.recipe.seed, folder=folder, base=Path.cwd(), progress=job.progress
    )
    rows = {name: len(getattr(splits, name)) for name in ("train", "validation", "calibration", "test")}
    return f"{len(splits.labels)} labels, " + ", ".join(f"{count} {name} rows" for name, count in rows.items() if count)


def _train(job: Job, folder: Path) -> str:
    from tledge import data, losses, model, plugins, train
    from tledge.train.processes import is_main

    recipe, task = job.recipe, tasks.load(job.recipe.task)
    splits = data.open_splits(job.stage("data"))
    train.seed(recipe.seed)
    backbone = model.load_backbone(recipe.model.backbone, revision=recipe.model.revision)
    pooling = backbone.pooling if recipe.model.pooling == "auto" else recipe.model.pooling
    classifier = model.build(
        backbone,
        task=recipe.task,
        problem_type=task.PROBLEM_TYPE,
        labels=splits.labels,
        pooling=pooling,
        max_length=recipe.model.max_length,
        dropout_prob=recipe.model.head.dropout_prob,
        head_hidden_size=recipe.model.head.hidden_size,
    )
    digest = model.weights_digest(classifier.backbone)
    tokenizer = folder / "tokenizer"
    if is_main():
        model.save_tokenizer(classifier, backbone.tokenizer, tokenizer)
    with train.main_first():
        encoder = inputs.load(task.INPUT, tokenizer)
    n_labels = len(splits.labels)
    train_rows, validation_rows = (
        model.Rows(rows[task.INPUT_COLUMN], task.targets(rows["label"], n_labels))
        for rows in (splits.train, splits.validation)
    )
    fitted = []
    for phase in model.phases(
        classifier,
        encoder,
        train_rows,
        validation_rows,
        recipe.finetune,
        cache=cache_folder() / "features",
        progress=job.progress,
    ):
        fitted.append(
            train.fit(
                phase.module,
                phase.train,
                phase.validation,
                phase=phase.name,
                note=phase.note,
                loss=plugins.load(losses.__name__, task.LOSS).loss,
                score=task.score,
                metric=task.METRIC,
                label_weights=train.label_weights(recipe.finetune.class_weights, train_rows.targets, splits.labels),
                groups=phase.groups,
                epochs=phase.epochs,
                settings=recipe.finetune,
                random_seed=recipe.seed,
                folder=folder / phase.name,
                progress=job.progress,
            )
        )
    if is_main():
        model.save(classifier, folder / "checkpoint", backbone.tokenizer)
        write_json(
            folder / "train.json",
            {
                "backbone": recipe.model.backbone,
                "backbone_sha256": digest,
                "pooling": pooling,
                "parameters": sum(p.numel() for p in classifier.parameters()),
                "trained_parameters": sum(p.numel() for p in classifier.parameters() if p.requires_grad),
                "phases": [artifacts.to_dict(each) for each in fitted],
            },
        )
        shutil.rmtree(tokenizer)
    last = fitted[-1]
    return f"{recipe.finetune.strategy}, validation {task.METRIC} {last.best_metric:.3f} at epoch {last.best_epoch:g}"


def _export(job: Job, folder: Path) -> str:
    from tledge import export, model
    from tledge.runtime import open_session, session_run

    recipe, task = job.recipe, tasks.load(job.recipe.task)
    checkpoint = job.stage("train") / "checkpoint"
    classifier = model.load(checkpoint)
    encoder = inputs.load(task.INPUT, checkpoint)
    sample = encoder.dummy(2, 8)
    sample["attention_mask"][0, -3:] = 0
    with job.progress("Exporting to ONNX", total=1) as advance:
        graph = export.export(
            classifier,
            sample,
            folder / "model.onnx",
            opset=recipe.export.opset,
            external_data=recipe.export.external_data,
        )
        advance(1)
    write_json(folder / "graph.json", graph)
    texts = _first_texts(job, 8)
    torch_run = export.torch_run(classifier)
    found = export.check(
        torch_run,
        session_run(open_session(folder / "model.onnx")),
        list(export.cases(encoder, texts)),
        task.decisions,
        atol=recipe.export.atol,
        rtol=recipe.export.rtol,
        progress=job.progress,
    )
    # Kept outside the stage's folder too, since a failure leaves no stage.
    parity = job.folder / "logs" / "parity.json"
    write_json(parity, [artifacts.to_dict(case) for case in found])
    shutil.copy(parity, folder / "parity.json")
    reference = [np.concatenate([torch_run(encoder.encode([text]))["logits"] for text in texts])]
    export.require(found, reference, where=str(parity))
    worst = max(case.max_abs_diff for case in found)
    return f"{graph.size_bytes / 1e6:.1f} MB, parity in {len(found)} cases, largest difference {worst:.1e}"


def _quantize(job: Job, folder: Path) -> str:
    from tledge import bench, data
    from tledge.quantize import run as quantize
    from tledge.quantize.choose import Limits
    from tledge.runtime import open_session, session_run

    recipe, task = job.recipe, tasks.load(job.recipe.task)
    splits = data.open_splits(job.stage("data"))
    encoder = inputs.load(task.INPUT, job.stage("train") / "checkpoint")
    fp32 = artifacts.from_dict(Graph, read_json(job.stage("export") / "graph.json"))
    for file in job.stage("export").glob("model.onnx*"):
        shutil.copy(file, folder / file.name)

    def score_on(rows: Any, name: str, graph: Path, variant: str) -> Evaluation:
        return score(
            session_run(open_session(graph)),
            encoder,
            rows[task.INPUT_COLUMN],
            task.targets(rows["label"], len(splits.labels)),
            task,
            progress=job.progress,
            description=f"Scoring {variant} on {name} rows",
        )

    at = recipe.bench

    def timed(graphs: Mapping[str, Path]) -> dict[str, tuple[float, LatencyRatio | None]]:
        result = bench.run(
            graphs,
            encoder.dummy,
            reference="fp32",
            batches=at.batch[:1],
            lengths=recipe.bench_lengths[:1],
            threads=at.threads[:1],
            max_seconds=at.max_seconds,
            repeats=0,
            progress=job.progress,
        )
        return {row.candidate: (row.percentiles_ms["p50"], row.against) for row in result.latencies}

    variants = quantize.run(
        fp32,
        folder,
        schemes=recipe.quantize.schemes,
        score=lambda graph, name: score_on(splits.validation, "validation", graph, name),
        time=timed,
        time_at=bench.setting(at.batch[0], recipe.bench_lengths[0], at.threads[0]),
        limits=Limits(task.METRIC, recipe.budget.max_metric_drop, recipe.budget.latency_ms, recipe.budget.size_mb),
        n_calibration=len(splits.calibration),
        progress=job.progress,
    )
    tested = {v.name: score_on(splits.test, "test", folder / v.graph.path, v.name) for v in variants}
    write_json(
        folder / "variants.json",
        [artifacts.to_dict(v) | {"test_metrics": tested[v.name].metrics} for v in variants],
    )
    chosen = next(v for v in variants if v.chosen)
    np.savez_compressed(folder / "test_outputs.npz", **tested[chosen.name].outputs)
    metric = tested[chosen.name].metrics[task.METRIC]
    return f"{chosen.name} chosen, test {task.METRIC} {metric:.3f}; {chosen.reason}"


def _bundle(job: Job, folder: Path) -> str:
    from tledge import bundle, export, model, report
    from tledge.bench import machine
    from tledge.runtime import open_session, session_run

    recipe, task = job.recipe, tasks.load(job.recipe.task)
    checkpoint, graphs = job.stage("train") / "checkpoint", job.stage("quantize")
    trained, rows = read_json(job.stage("train") / "train.json"), read_json(job.stage("data") / "data.json")
    provenance = bundle.Provenance(
        tledge=tledge.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        backbone=_public_name(recipe.model.backbone),
        backbone_sha256=trained["backbone_sha256"],
        recipe_sha256=hashlib.sha256((job.folder / "recipe.yaml").read_bytes()).hexdigest(),
        rows=rows["rows"],
        labels=rows["label_counts"],
        packages=machine.describe().packages,
    )
    variants = read_variants(graphs)
    manifest = bundle.write(
        folder,
        name=recipe.name,
        checkpoint=checkpoint,
        variants=[(variant, graphs / variant.graph.path) for variant in variants],
        task=recipe.task,
        problem_type=task.PROBLEM_TYPE,
        labels=tuple(rows["labels"]),
        open_run=lambda path: session_run(open_session(path)),
        provenance=provenance,
        readme=report.model_card(_facts(job)),
        input_kind=task.INPUT,
        reference=export.torch_run(model.load(checkpoint)),
        only_chosen=recipe.bundle.variants == "chosen",
    )
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return f"{len(manifest.variants)} variant(s), {size / 1e6:.1f} MB, {manifest.chosen} is chosen"


def _bench(job: Job, folder: Path) -> str:
    from tledge.bench.bundled import run_bundle

    settings = job.recipe.bench
    result = run_bundle(
        job.stage("bundle"),
        batches=settings.batch,
        lengths=job.recipe.bench_lengths,
        threads=settings.threads,
        percentile=settings.percentile,
        max_seconds=settings.max_seconds,
        extra=torch_eager(job.stage("train") / "checkpoint"),
        progress=job.progress,
    )
    write_json(folder / "bench.json", result)
    chosen = next(v.name for v in read_variants(job.stage("quantize")) if v.chosen)
    first = next(row for row in result.latencies if row.candidate == chosen)
    assert first.against is not None
    return f"{chosen} takes {first.percentiles_ms['p50']:.2f} ms, {1 / first.against.ratio:.1f} times as fast as torch eager"


def torch_eager(checkpoint: Path) -> dict[str, Callable[[int], Run]]:
    """The checkpoint in torch eager as a candidate of a benchmark."""
    from tledge import export, model

    loaded = model.load(checkpoint)
    return {"torch eager": lambda threads: export.torch_run(loaded, threads=threads)}


def _public_name(backbone: str) -> str:
    """A backbone's reference without the folders of the machine that trained."""
    return Path(backbone).name if Path(backbone).is_absolute() else backbone


def _first_texts(job: Job, count: int) -> list[str]:
    from tledge import data

    rows = data.open_splits(job.stage("data")).validation
    column = tasks.load(job.recipe.task).INPUT_COLUMN
    return [str(text) for text in rows[column][:count]]


def read_variants(folder: Path) -> tuple[Variant, ...]:
    """The variants of a run's `quantize` folder."""
    return tuple(artifacts.from_dict(Variant, item) for item in read_json(folder / "variants.json"))
