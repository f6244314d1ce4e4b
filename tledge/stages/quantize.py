"""The stage `quantize`: variants of the graph, scored, timed, and the one that ships chosen."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tledge import answers, artifacts, processor, significance
from tledge.artifacts import Graph, LatencyRatio, MetricDrop, Variant, read_json, write_json
from tledge.digest import sha256
from tledge.errors import RecipeError
from tledge.evaluate import Evaluation, score
from tledge.stages.job import Job

if TYPE_CHECKING:
    from tledge.quantize.choose import Limits
    from tledge.quantize.search import Compare, Scored


def stage(job: Job, folder: Path) -> str:
    """Make, score, time and choose variants, and score them on the test rows."""
    from tledge.quantize import run as quantize
    from tledge.quantize.choose import limits_of

    recipe, task = job.recipe, job.task
    exported = job.stage("export")
    fp32 = artifacts.from_dict(Graph, read_json(exported / "graph.json"))
    for file in exported.glob("model.onnx*"):
        shutil.copy(file, folder / file.name)
    rows = {split: job.rows.scored(job, split, exported / "inputs") for split in ("validation", "calibration", "test")}

    def score_on(split: str, graph: Path, variant: str, *, exact: bool = False) -> Evaluation:
        return score(
            job.runs.open_run(graph, exact=exact),
            rows[split].encoder,
            rows[split].values,
            rows[split].targets,
            task,
            progress=job.progress,
            description=f"Scoring {variant} on {split} {job.task.UNIT}",
        )

    def compare(split: str, ours: Scored, fp32: Scored) -> MetricDrop:
        truth = rows[split].targets
        return significance.paired(task, job.metric, ours.records, truth, fp32.records, truth, reference="fp32")

    limits, kept = limits_of(recipe), rows["calibration"]
    timing = job.runs.timing(job, fp32, exported / "inputs")
    variants, candidates = quantize.run(
        fp32,
        folder,
        schemes=recipe.schemes,
        settings=recipe.quantizing,
        score=lambda graph, name: score_on("validation", graph, name),
        score_exactly=(lambda graph, name: score_on("validation", graph, name, exact=True))
        if processor.clips(processor.here())
        else None,
        time=lambda graphs: timed(job, graphs, timing.feeds, timing.length),
        time_at=timing.told,
        compare=functools.partial(compare, "validation"),
        limits=limits,
        calibration=lambda: (kept.encoder.encode([value]) for value in kept.values),
        n_calibration=len(kept.values),
        progress=job.progress,
    )
    tested = {v.name: score_on("test", folder / v.graph.path, v.name) for v in variants}
    variants = tell(job, with_test(variants, tested, functools.partial(compare, "test")), limits)
    write_json(folder / "variants.json", [artifacts.to_dict(variant) for variant in variants])
    write_json(folder / "candidates.json", [artifacts.to_dict(each) for each in candidates])
    write_json(folder / "scored.json", {split: int(rows[split].targets.size) for split in ("validation", "test")})
    answers.save(
        folder,
        job.rows.hashes(rows["test"]),
        rows["test"].targets,
        {name: evaluation.records for name, evaluation in tested.items()},
        {variant.name: sha256(folder / variant.graph.path) for variant in variants},
    )
    chosen = next(v for v in variants if v.chosen)
    if samples := job.runs.samples(job, folder / chosen.graph.path, exported / "inputs"):
        write_json(folder / "samples.json", samples)
    counted = len(rows["test"].values), rows["test"].of
    some = "" if counted[0] == counted[1] else f" on {counted[0]} of {counted[1]} {job.task.UNIT}"
    metric = tested[chosen.name].metrics[job.metric]
    where = "" if recipe.bench.provider == "cpu" else f" on {recipe.bench.provider}"
    return f"{chosen.name} chosen{where}, test {job.metric} {metric:.3f}{some}; {chosen.reason}"


def with_test(variants: Sequence[Variant], tested: Mapping[str, Scored], compare: Compare) -> tuple[Variant, ...]:
    """The variants with what they give on the test rows, alone and against fp32."""
    return tuple(
        dataclasses.replace(
            each,
            test_metrics=tested[each.name].metrics,
            test_metric_drop=None if each.scheme == "fp32" else compare(tested[each.name], tested["fp32"]),
        )
        for each in variants
    )


def tell(job: Job, variants: tuple[Variant, ...], limits: Limits) -> tuple[Variant, ...]:
    """Say why none but fp32 ships and what to try, or that the chosen one loses too much on the test rows."""
    from tledge.quantize.choose import advice, over_budget

    chosen = next(v for v in variants if v.chosen)
    if chosen is variants[0]:
        for variant in variants[1:]:
            job.say(f"quantize: {variant.name} does not ship: {variant.reason}")
        for line in advice(variants, limits):
            job.say(f"quantize: to try: {line}")
    elif line := over_budget(chosen, limits):
        job.say(f"quantize: {line}")
    return variants


def timed(
    job: Job, graphs: Mapping[str, Path], feeds: Callable[..., Any], length: int | None
) -> dict[str, tuple[float, LatencyRatio | None]]:
    """Each graph's median in milliseconds, and its ratio to fp32, at the first setting of the recipe's `bench`.

    That is on the recipe's provider: what is fastest on a CPU may be the slowest elsewhere.

    Args:
        job: the run.
        graphs: by variant, `fp32` among them.
        feeds: a batch size and a length to the tensors of one run.
        length: of the inputs in tokens; for language models that of the past, and `None` for images.

    Raises:
        RecipeError: the time is too short for a median.
        InputError: the provider is not there.
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
        provider=at.provider,
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
