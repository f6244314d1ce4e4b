"""What each stage of a run does: it takes the job and an empty folder, and gives one line about what came out.

`pipeline` knows their order; here each room is handed what the rooms before it left on disk, and the callables that
it needs of others.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import tledge
from tledge import artifacts, evidence, inputs, processes, tasks
from tledge.artifacts import Graph, LatencyRatio, read_json, write_json
from tledge.errors import RecipeError
from tledge.evaluate import Evaluation, Run, score
from tledge.progress import Progress, silent
from tledge.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Job:
    """One run: its recipe, its folder, who shows progress, and who is told about each stage in one line."""

    recipe: Recipe
    folder: Path
    progress: Progress = silent
    say: Callable[[str], None] = lambda line: None

    def stage(self, name: str) -> Path:
        """The folder of a whole stage."""
        return self.folder / name


def cache_folder() -> Path:
    """Where features are kept between runs: `$TLEDGE_CACHE`, else `tledge` in the user's cache folder."""
    if named := os.environ.get("TLEDGE_CACHE"):
        return Path(named)
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "tledge" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tledge"


def data_stage(job: Job, folder: Path) -> str:
    """Read the sources and write the splits."""
    from tledge import data

    task = tasks.load(job.recipe.task)
    splits = data.load(
        job.recipe.data, task, seed=job.recipe.seed, folder=folder, base=Path.cwd(), progress=job.progress
    )
    rows = {name: len(getattr(splits, name)) for name in ("train", "validation", "calibration", "test")}
    return f"{len(splits.labels)} labels, " + ", ".join(f"{count} {name} rows" for name, count in rows.items() if count)


def train_stage(job: Job, folder: Path) -> str:
    """Put a head on the backbone, train as the strategy says, and write the checkpoint and the learning curves."""
    from tledge import data, losses, model, plugins, train

    recipe, task = job.recipe, tasks.load(job.recipe.task)
    splits = data.open_splits(job.stage("data"))
    train.seed(recipe.seed)
    backbone = model.load_backbone(recipe.model.backbone, revision=recipe.model.revision)
    classifier = _classifier(recipe, task, backbone, splits.labels)
    digest = model.weights_digest(classifier.backbone)
    tokenizer = folder / "tokenizer"
    with train.main_first():
        if processes.is_main():
            model.save_tokenizer(classifier, backbone.tokenizer, tokenizer)
        encoder = inputs.load(task.INPUT, tokenizer)
    n_labels = len(splits.labels)
    train_rows, validation_rows = (
        model.Rows(rows[task.INPUT_COLUMN], task.targets(rows["label"], n_labels))
        for rows in (splits.train, splits.validation)
    )
    fitted = []
    phases = model.phases(
        classifier,
        encoder,
        train_rows,
        validation_rows,
        recipe.finetune,
        cache=cache_folder() / "features",
        progress=job.progress,
    )
    while True:
        with train.main_first():  # of several processes, one fills the cache and the others read it
            phase = next(phases, None)
        if phase is None:
            break
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
    if processes.is_main():
        model.save(classifier, folder / "checkpoint", backbone.tokenizer)
        write_json(
            folder / "train.json",
            {
                "backbone": recipe.model.backbone,
                "backbone_sha256": digest,
                "pooling": classifier.pooling,
                "parameters": sum(p.numel() for p in classifier.parameters()),
                "trained_parameters": sum(p.numel() for p in classifier.parameters() if p.requires_grad),
                "phases": [artifacts.to_dict(each) for each in fitted],
            },
        )
        shutil.rmtree(tokenizer)
    last = fitted[-1]
    return f"{recipe.finetune.strategy}, validation {task.METRIC} {last.best_metric:.3f} at epoch {last.best_epoch:g}"


def _classifier(recipe: Recipe, task: tasks.Task, backbone: Any, labels: tuple[str, ...]) -> Any:
    """A backbone with the fresh head that a recipe describes."""
    from tledge import model

    return model.build(
        backbone,
        task=recipe.task,
        problem_type=task.PROBLEM_TYPE,
        optimum_task=task.OPTIMUM_TASK,
        labels=labels,
        pooling=backbone.pooling if recipe.model.pooling == "auto" else recipe.model.pooling,
        max_length=recipe.model.max_length,
        dropout_prob=recipe.model.head.dropout_prob,
        head_hidden_size=recipe.model.head.hidden_size,
    )


def export_stage(job: Job, folder: Path) -> str:
    """Write the fp32 graph and prove that it computes what torch computes."""
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


def quantize_stage(job: Job, folder: Path) -> str:
    """Make, score, time and choose variants, and score them on the test rows."""
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
        for row in result.latencies:
            if "p50" not in row.percentiles_ms:
                raise RecipeError(
                    f"bench.max_seconds: {at.max_seconds:g} s gave {row.samples} runs of {row.candidate}, too few for "
                    "a median; raise it"
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
    outputs: dict[str, Any] = tested[chosen.name].outputs
    np.savez_compressed(folder / "test_outputs.npz", **outputs)
    metric = tested[chosen.name].metrics[task.METRIC]
    return f"{chosen.name} chosen, test {task.METRIC} {metric:.3f}; {chosen.reason}"


def bundle_stage(job: Job, folder: Path) -> str:
    """Assemble what is shipped, with golden vectors and the model card."""
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
    variants = evidence.variants(graphs)
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
        readme=report.model_card(evidence.facts(job.recipe, job.folder)),
        input_kind=task.INPUT,
        reference=export.torch_run(model.load(checkpoint)),
        only_chosen=recipe.bundle.variants == "chosen",
    )
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return f"{len(manifest.variants)} variant(s), {size / 1e6:.1f} MB, {manifest.chosen} is chosen"


def bench_stage(job: Job, folder: Path) -> str:
    """Time every variant beside torch eager, interleaved."""
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
    chosen = next(v.name for v in evidence.variants(job.stage("quantize")) if v.chosen)
    first = next(row for row in result.latencies if row.candidate == chosen)
    if "p50" not in first.percentiles_ms or first.against is None:
        return f"too few runs of {chosen} for a median; raise bench.max_seconds"
    times = f"{1 / first.against.ratio:.1f} times as fast as torch eager"
    return f"{chosen} takes {first.percentiles_ms['p50']:.2f} ms, {times}"


def report_stage(job: Job, folder: Path) -> str:
    """Write the report as HTML, Markdown and JSON."""
    from tledge import report

    facts = evidence.facts(job.recipe, job.folder)
    (folder / "report.html").write_text(report.html(facts), encoding="utf-8")
    (folder / "report.md").write_text(report.markdown(facts), encoding="utf-8")
    write_json(folder / "facts.json", facts)
    return report.verdict(facts)


def torch_eager(checkpoint: Path) -> dict[str, Callable[[int], Run]]:
    """The checkpoint in torch eager as a candidate of a benchmark."""
    processes.let_idle_threads_sleep()
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
