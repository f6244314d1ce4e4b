"""The stage `quantize` of a language model: variants scored on blocks of tokens, timed step by step, and one chosen."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tledge import artifacts, likelihood, processor, significance
from tledge.artifacts import Graph, LatencyRatio, MetricDrop, read_json, write_json
from tledge.stages.job import Job
from tledge.stages.language.distill import some
from tledge.stages.quantize import tell, timed, with_test

if TYPE_CHECKING:
    from tledge.quantize.search import Scored

SAMPLES = 3
SAMPLE_PROMPT, SAMPLE_TOKENS = 16, 40
"""Tokens of the texts that the report shows: of the prompt, and of what was written."""


def stage(job: Job, folder: Path) -> str:
    """Make, score, time and choose variants, and let the chosen one write."""
    from tledge import data
    from tledge.gate import rows
    from tledge.quantize import run as quantize
    from tledge.quantize.choose import limits_of
    from tledge.runtime import open_session
    from tledge.runtime.decoder import logits_run

    recipe, metric = job.recipe, job.metric
    blocks = data.open_blocks(job.stage("data"))
    fp32 = artifacts.from_dict(Graph, read_json(job.stage("export") / "graph.json"))
    for file in job.stage("export").glob("model.onnx*"):
        shutil.copy(file, folder / file.name)

    def score_on(split: str, graph: Path, variant: str, *, exact: bool = False) -> likelihood.LanguageEvaluation:
        return likelihood.score(
            logits_run(open_session(graph, exact=exact)),
            some(getattr(blocks, split)),
            bytes_per_token=blocks.bytes_per_token[split],
            progress=job.progress,
            description=f"Scoring {variant} on {split} blocks",
        )

    def compare(split: str, ours: Scored, fp32: Scored) -> MetricDrop:
        ids = some(getattr(blocks, split))
        rate = {"bytes_per_token": np.full(len(ids), blocks.bytes_per_token[split], np.float32)}
        mine, theirs = (dict(found.outputs) | rate for found in (ours, fp32))
        return significance.paired(job.task, metric, mine, ids, theirs, ids, reference="fp32")

    limits = limits_of(recipe)
    variants, _ = quantize.run(
        fp32,
        folder,
        schemes=recipe.schemes,
        settings=recipe.quantize,
        score=lambda graph, name: score_on("validation", graph, name),
        score_exactly=(lambda graph, name: score_on("validation", graph, name, exact=True))
        if processor.clips(processor.here())
        else None,
        compare=functools.partial(compare, "validation"),
        time=lambda graphs: timed_steps(job, graphs, fp32),
        time_at=_setting(job),
        limits=limits,
        calibration=lambda: iter(()),
        n_calibration=0,
        progress=job.progress,
    )
    tested = {v.name: score_on("test", folder / v.graph.path, v.name) for v in variants}
    variants = tell(job, with_test(variants, tested, functools.partial(compare, "test")), limits)
    write_json(folder / "variants.json", [artifacts.to_dict(variant) for variant in variants])
    scored = some(blocks.test)
    rate = np.full(len(scored), blocks.bytes_per_token["test"], np.float32)
    rows.save_answers(
        folder,
        rows.hashes_of([block.tobytes() for block in scored]),
        scored,
        {
            name: {"token_losses": found.token_losses.astype(np.float32), "bytes_per_token": rate}
            for name, found in tested.items()
        },
    )
    write_json(folder / "candidates.json", [])
    write_json(
        folder / "scored.json", {split: int(some(getattr(blocks, split)).size) for split in ("validation", "test")}
    )
    chosen = next(v for v in variants if v.chosen)
    write_json(folder / "samples.json", _samples(job, folder / chosen.graph.path, blocks.validation))
    counted = f"{len(scored)} of {len(blocks.test)} blocks"
    return (
        f"{chosen.name} chosen, test {metric} {tested[chosen.name].metrics[metric]:.3f} on {counted}; {chosen.reason}"
    )


def timed_steps(job: Job, graphs: Mapping[str, Path], fp32: Graph) -> dict[str, tuple[float, LatencyRatio | None]]:
    """Each graph's median in milliseconds for one token after a past, and its ratio to fp32."""
    from tledge.runtime.decoder import step_feeds

    vocab_size = fp32.outputs[0].shape[-1]
    assert isinstance(vocab_size, int)
    return timed(
        job,
        graphs,
        lambda batch, length: step_feeds(fp32.inputs, batch, length or 0, vocab_size=vocab_size),
        _past(job),
    )


def _past(job: Job) -> int:
    """Tokens before the one that is timed: the first prompt of the recipe's `bench`, as far as the context goes."""
    from tledge.bundle import read_decoding

    length = job.recipe.bench_lengths[0]
    assert length is not None, "texts have a length"
    return min(length, read_decoding(job.stage("export") / "inputs").context_length - 1)


def _setting(job: Job) -> str:
    from tledge import bench

    at = job.recipe.bench
    return f"one token after {_past(job)}, {bench.setting(at.batch[0], None, at.threads[0])}"


def _samples(job: Job, graph: Path, blocks: Any) -> list[dict[str, str]]:
    """How a graph goes on, greedily, with the beginnings of some blocks."""
    from tledge.bundle import read_decoding
    from tledge.inputs.text import TextInput
    from tledge.runtime import Generator, open_session

    folder = job.stage("export") / "inputs"
    encoder, decoding = TextInput.load(folder), read_decoding(folder)
    length = max(1, min(SAMPLE_PROMPT, decoding.context_length // 2, blocks.shape[1] // 2))
    starts = [blocks[i * len(blocks) // SAMPLES][:length] for i in range(min(SAMPLES, len(blocks)))]
    generator = Generator(open_session(graph), encoder, decoding)
    written = []
    for start in starts:
        prompt = encoder.decode([int(token) for token in start]).strip("\ufffd")  # a block may cut a character
        text = generator.generate(prompt, max_new_tokens=SAMPLE_TOKENS).text
        written.append({"prompt": prompt, "text": text})
    return written
