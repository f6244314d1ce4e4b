"""Generation: a prompt is read, and a text goes on, one token after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tledge import processes
from tledge.artifacts import BenchResult, Graph
from tledge.evaluate import Run
from tledge.report import format as fmt
from tledge.stages.job import Job
from tledge.stages.runs import Exported, Timing, beside

if TYPE_CHECKING:
    from tledge.bench import Generate

SAMPLES = 3
SAMPLE_PROMPT, SAMPLE_TOKENS = 16, 40
"""Tokens of the texts that the report shows: of the prompt, and of what was written."""


LONGEST_PROMPT = 96
"""Tokens of the longest prompt that parity is checked on, token by token; random ones fill the whole context."""


def export(job: Job, path: Path) -> Exported:
    """The fp32 graph of the checkpoint with a cache, held to how torch reads prompts and goes on with them."""
    from tledge import data, export, model
    from tledge.runtime import open_session, session_run

    settings = job.recipe.export
    language = model.load_language(str(job.checkpoint))
    with job.progress("Exporting to ONNX", total=1) as advance:
        graph = export.export_decoder(language.module, path, opset=settings.opset, external_data=settings.external_data)
        advance(1)
    prompts = prompts_of(data.open_blocks(job.stage("data")).validation)
    found = export.check_decoder(
        language.module,
        session_run(open_session(path)),
        prompts,
        context=model.context_length(language.config),
        atol=settings.atol,
        rtol=settings.rtol,
        progress=job.progress,
    )
    return Exported(found, export.last_logits(language.module, prompts), lambda folder: graph)


def prompts_of(blocks: Any) -> list[list[int]]:
    """The beginnings of the first blocks, `(blocks, block)`: four prompts, of a half of a block and less."""
    half = blocks.shape[1] // 2
    lengths = [max(3, half), max(2, half * 2 // 3), max(2, half // 3), 2]
    return [[int(token) for token in blocks[i % len(blocks)][: min(n, LONGEST_PROMPT)]] for i, n in enumerate(lengths)]


def open_run(graph: Path, *, exact: bool = False) -> Run:
    """A graph that reads whole texts, without a past."""
    from tledge.runtime import open_session
    from tledge.runtime.decoder import logits_run

    return logits_run(open_session(graph, exact=exact))


def timing(job: Job, graph: Graph, inputs_folder: Path) -> Timing:
    """One token after the first prompt of the recipe's `bench`, as far as the context goes."""
    from tledge.bench import setting
    from tledge.bundle import read_decoding
    from tledge.runtime.decoder import step_feeds

    at, length = job.recipe.bench, job.recipe.bench_lengths[0]
    vocab_size = graph.outputs[0].shape[-1]
    assert length is not None, "texts have a length"
    assert isinstance(vocab_size, int)
    past = min(length, read_decoding(inputs_folder).context_length - 1)
    return Timing(
        lambda batch, length: step_feeds(graph.inputs, batch, length or 0, vocab_size=vocab_size),
        past,
        f"one token after {past}, {setting(at.batch[0], None, at.threads[0], at.provider)}",
    )


def samples(job: Job, graph: Path, inputs_folder: Path) -> Sequence[dict[str, str]]:
    """How a graph goes on, greedily, with the beginnings of some validation blocks."""
    from tledge import data
    from tledge.bundle import read_decoding
    from tledge.inputs.text import TextInput
    from tledge.runtime import Generator, open_session

    blocks = data.open_blocks(job.stage("data")).validation
    encoder, decoding = TextInput.load(inputs_folder), read_decoding(inputs_folder)
    length = max(1, min(SAMPLE_PROMPT, decoding.context_length // 2, blocks.shape[1] // 2))
    starts = [blocks[i * len(blocks) // SAMPLES][:length] for i in range(min(SAMPLES, len(blocks)))]
    generator = Generator(open_session(graph), encoder, decoding)
    written = []
    for start in starts:
        prompt = encoder.decode([int(token) for token in start]).strip("\ufffd")  # a block may cut a character
        text = generator.generate(prompt, max_new_tokens=SAMPLE_TOKENS).text
        written.append({"prompt": prompt, "text": text})
    return written


def bench(job: Job) -> BenchResult:
    """How the variants of a run's bundle write, beside what `references` gives."""
    from tledge.bench.bundled import run_language

    settings = job.recipe.bench
    return run_language(
        job.stage("bundle"),
        batches=settings.batch,
        lengths=settings.length,
        new_tokens=settings.new_tokens,
        threads=settings.threads,
        percentile=settings.percentile,
        duration_s=settings.duration_s,
        provider=settings.provider,
        extra=references(job.folder, job.stage("bundle")),
        progress=job.progress,
    )


def benched(result: BenchResult, variant: str) -> str:
    """How fast a variant writes."""
    first = next(row for row in result.generations if row.candidate == variant)
    assert first.against is not None, "the reference is torch eager"
    rate = f"{fmt.quantity(first.tokens_per_second)} tokens/s after a prompt of {first.prompt}"
    return f"{variant} writes {rate}, {fmt.times(first.against)} as {fmt.reference(first.against.reference)}"


def references(run: Path, shipped: Path) -> dict[str, Callable[[int], Generate]]:  # noqa: ARG001
    """What graphs are timed beside in a run folder: torch eager, and the teacher before a student."""
    return beside(run, _torch_eager, lambda trained, student: _torch_eager(trained))


def _torch_eager(checkpoint: Path) -> Callable[[int], Generate]:
    processes.let_idle_threads_sleep()
    from tledge import export, model

    module = model.load_language(str(checkpoint)).module
    return lambda threads: export.torch_generate(module, threads=threads)


def reference(job: Job) -> Run:
    """One pass of the checkpoint over whole texts in torch eager, without a cache."""
    processes.let_idle_threads_sleep()
    from tledge import export, model

    module = model.load_language(str(job.checkpoint)).module
    module.config.use_cache = False
    return export.torch_run(module)
