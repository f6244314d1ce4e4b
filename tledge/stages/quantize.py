"""The stage `quantize`: variants of the graph, scored, timed, and the one that ships chosen."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tledge import artifacts, inputs, processor
from tledge.artifacts import Graph, LatencyRatio, read_json, write_json
from tledge.errors import RecipeError
from tledge.evaluate import Evaluation, score
from tledge.stages.job import Job


def stage(job: Job, folder: Path) -> str:
    """Make, score, time and choose variants, and score them on the test rows."""
    from tledge import bench, data
    from tledge.gate import rows
    from tledge.quantize import run as quantize
    from tledge.quantize.choose import Limits
    from tledge.runtime import open_session, session_run

    recipe, task = job.recipe, job.task
    splits = data.open_splits(job.stage("data"))
    encoder = inputs.load(task.INPUT, job.stage("export") / "inputs")
    fp32 = artifacts.from_dict(Graph, read_json(job.stage("export") / "graph.json"))
    for file in job.stage("export").glob("model.onnx*"):
        shutil.copy(file, folder / file.name)

    def score_on(split: Any, name: str, graph: Path, variant: str, *, exact: bool = False) -> Evaluation:
        return score(
            session_run(open_session(graph, exact=exact)),
            encoder,
            split[task.INPUT_COLUMN],
            task.targets(split["label"], len(splits.labels)),
            task,
            progress=job.progress,
            description=f"Scoring {variant} on {name} rows",
        )

    def calibration() -> Iterator[dict[str, Any]]:
        return (encoder.encode([value]) for value in splits.calibration[task.INPUT_COLUMN])

    at = recipe.bench
    variants, candidates = quantize.run(
        fp32,
        folder,
        schemes=recipe.schemes,
        settings=recipe.quantize,
        score=lambda graph, name: score_on(splits.validation, "validation", graph, name),
        score_exactly=(lambda graph, name: score_on(splits.validation, "validation", graph, name, exact=True))
        if processor.clips(processor.here())
        else None,
        time=lambda graphs: timed(job, graphs, encoder.dummy, recipe.bench_lengths[0]),
        time_at=bench.setting(at.batch[0], recipe.bench_lengths[0], at.threads[0]),
        limits=Limits(job.metric, recipe.budget.max_metric_drop, recipe.budget.latency_ms, recipe.budget.size_mb),
        calibration=calibration,
        n_calibration=len(splits.calibration),
        progress=job.progress,
    )
    tested = {v.name: score_on(splits.test, "test", folder / v.graph.path, v.name) for v in variants}
    write_json(
        folder / "variants.json",
        [artifacts.to_dict(v) | {"test_metrics": tested[v.name].metrics} for v in variants],
    )
    write_json(folder / "candidates.json", [artifacts.to_dict(each) for each in candidates])
    chosen = next(v for v in variants if v.chosen)
    for name, stem in ((chosen.name, "test_outputs"), ("fp32", "fp32_test_outputs")):
        outputs: dict[str, Any] = tested[name].outputs
        np.savez_compressed(folder / f"{stem}.npz", **outputs)
    rows.save_answers(
        folder,
        rows.hashes_of(splits.test[task.INPUT_COLUMN]),
        task.targets(splits.test["label"], len(splits.labels)),
        {name: evaluation.outputs for name, evaluation in tested.items()},
    )
    metric = tested[chosen.name].metrics[job.metric]
    return f"{chosen.name} chosen, test {job.metric} {metric:.3f}; {chosen.reason}"


def timed(
    job: Job, graphs: Mapping[str, Path], feeds: Callable[..., Any], length: int | None
) -> dict[str, tuple[float, LatencyRatio | None]]:
    """Each graph's median in milliseconds, and its ratio to fp32, at the first setting of the recipe's `bench`.

    Args:
        job: the run.
        graphs: by variant, `fp32` among them.
        feeds: a batch size and a length to the tensors of one run.
        length: of the inputs in tokens; for language models that of the past, and `None` for images.

    Raises:
        RecipeError: the time is too short for a median.
    """
    from tledge import bench

    at = job.recipe.bench
    result = bench.run(
        graphs,
        feeds,
        reference="fp32",
        batches=at.batch[:1],
        lengths=[length],
        threads=at.threads[:1],
        duration_s=at.duration_s,
        repeats=0,
        progress=job.progress,
    )
    for row in result.latencies:
        if "p50" not in row.percentiles_ms:
            raise RecipeError(
                f"bench.duration_s: {at.duration_s:g} s gave {row.samples} runs of {row.candidate}, too few for "
                "a median; raise it"
            )
    return {row.candidate: (row.percentiles_ms["p50"], row.against) for row in result.latencies}
