"""What each way to write int8 weights costs, and whether the answers are those of exact arithmetic here.

    python benchmarks/portable.py runs/quickstart runs/solar-cells [...] [--rows N]

Of each finished run the int8 graphs whose products could overflow are made again from its fp32 graph, with the settings
that were picked, in these ways: `none` (as quantized), `reduce_range` (7 bits), `pairs` (no two neighbours that can
overflow) and `s8s8` (signed activations, which have no such product). All are scored on the run's validation and test
rows, one at a time as on a device, here and in exact arithmetic, and timed with fp32 in one interleaved run. Writes a
Markdown table a network to standard output. Exits with 1 where a `pairs` graph gives other numbers than exact
arithmetic.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tledge import artifacts, data, evaluate, graph_file, inputs, likelihood, overflow, plugins, processor
from tledge.artifacts import Graph, Variant, read_json
from tledge.bench.machine import describe
from tledge.bench.table import ratio
from tledge.errors import TledgeError
from tledge.quantize.run import SCHEMES
from tledge.recipe import load_recipe
from tledge.runtime import open_session, session_run
from tledge.runtime.decoder import logits_run
from tledge.stages import Job
from tledge.stages.language import quantize as language
from tledge.stages.language.distill import some
from tledge.stages.quantize import timed

WAYS = ("none", "reduce_range", "pairs", "s8s8")
HEADER = (
    "| int8 weights | validation {0} | test {0} | answers unlike exact arithmetic | rows with other numbers | "
    "outputs' distance to fp32, RMS | pairs that could overflow | MB | of fp32's time |\n|" + 9 * "---|"
)


@dataclass
class Watched:
    """A run that remembers what it gave: a digest of each row's outputs, and their distance to fp32's."""

    run: object
    fp32: object = None
    digests: list = field(default_factory=list)
    squares: float = 0.0
    numbers: int = 0

    def __call__(self, tensors):
        outputs = self.run(tensors)
        named = outputs if isinstance(outputs, dict) else {"logits": outputs}
        self.digests.append(hashlib.blake2b(b"".join(each.tobytes() for each in named.values())).digest())
        if self.fp32 is not None:
            expected = self.fp32(tensors)
            expected = expected if isinstance(expected, dict) else {"logits": expected}
            for name, each in named.items():
                self.squares += float(np.sum((each.astype(np.float64) - expected[name]) ** 2))
                self.numbers += each.size
        return outputs

    @property
    def distance(self):
        return (self.squares / self.numbers) ** 0.5


class Classifier:
    """A run whose graph answers rows: texts or images."""

    def __init__(self, job, n_rows):
        self.job, self.n_rows = job, n_rows
        self.splits = data.open_splits(job.stage("data"))
        self.encoder = inputs.load(job.task.INPUT, job.stage("export") / "inputs")
        self.open = lambda path, exact=False: session_run(open_session(path, exact=exact))

    def score(self, run, split):
        job, rows = self.job, getattr(self.splits, split)
        values = rows[job.task.INPUT_COLUMN][: self.n_rows]
        targets = job.task.targets(rows["label"][: self.n_rows], len(self.splits.labels))
        return evaluate.score(run, self.encoder, values, targets, job.task)

    def calibration(self):
        return (self.encoder.encode([value]) for value in self.splits.calibration[self.job.task.INPUT_COLUMN])

    def time(self, graphs):
        return timed(self.job, graphs, self.encoder.dummy, self.job.recipe.bench_lengths[0])


class LanguageModel:
    """A run whose graph goes on with texts; an answer is the most likely next token."""

    def __init__(self, job, n_rows):
        self.job, self.n_rows = job, n_rows
        self.blocks = data.open_blocks(job.stage("data"))
        self.fp32 = artifacts.from_dict(Graph, read_json(job.stage("export") / "graph.json"))
        self.open = lambda path, exact=False: logits_run(open_session(path, exact=exact))

    def score(self, run, split):
        rows = some(getattr(self.blocks, split))[: self.n_rows]
        return likelihood.score(run, rows, bytes_per_token=self.blocks.bytes_per_token[split])

    def calibration(self):
        return iter(())

    def time(self, graphs):
        return language.timed_steps(self.job, graphs, self.fp32)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a finished run's folder")
    parser.add_argument("--rows", type=int, metavar="N", help="score the first N rows of each split alone")
    options = parser.parse_args()
    here = describe()
    print(f"{here.cpu}, {processor.here().kind}, {here.cores} cores, {here.system}, onnxruntime {here.onnxruntime}")
    if not processor.clips(processor.here()):
        print("\nSums are exact on this processor by construction: nothing to compare them with.")
    failed = []
    for run in options.runs:
        if not (run / "quantize" / "variants.json").is_file():
            parser.error(f"{run} is not a finished run: make it with tledge quantize RECIPE --out {run}")
        try:
            failed += compare(Job(load_recipe(run / "recipe.yaml"), run), options.rows)
        except TledgeError as error:
            parser.error(f"{run}: {error}")
    for name in failed:
        print(f"{name}: pair-safe weights, and yet the outputs are not those of exact arithmetic", file=sys.stderr)
    return 1 if failed else 0


def compare(job, n_rows):
    """Print the table of each int8 scheme of a run, and give the names of those whose `pairs` are not exact."""
    network = (LanguageModel if job.recipe.is_language_model else Classifier)(job, n_rows)
    source = job.stage("export") / "model.onnx"
    variants = [artifacts.from_dict(Variant, each) for each in read_json(job.stage("quantize") / "variants.json")]
    failed = []
    for variant in variants[1:]:  # the first is fp32
        scheme = plugins.load(SCHEMES, variant.scheme)
        if not scheme.TAKES_OVERFLOW_FIX:
            continue
        title = f"{job.recipe.name}, {variant.scheme}"
        with tempfile.TemporaryDirectory() as folder:
            graphs = make(scheme, variant, source, Path(folder), network.calibration)
            print(f"\n### {title}\n\n{settings_of(variant)}{HEADER.format(job.metric)}", flush=True)
            rows = {name: measure(network, source, path) for name, path in graphs.items()}
            times = network.time(graphs)
        for name, (cells, exact) in rows.items():
            median, against = times[name]
            time = f"1 ({median:.2f} ms)" if against is None else ratio(against)
            print(f"| {' | '.join((name, *cells, time))} |")
            if name == "pairs" and not exact:
                failed.append(title)
        if "s8s8" not in graphs:
            print("\nThere is no s8s8: activations that are quantized as they come are uint8.")
    return failed


def make(scheme, variant, source, folder, calibration):
    """The graph in every way that its scheme knows, fp32 first."""
    graphs = {"fp32": source}
    chosen = {name: value for name, value in variant.settings.items() if name in ("types", "method", "keep_float")}
    if "n_worst" in variant.settings:
        chosen["n_worst"] = int(variant.settings["n_worst"])
    for way in WAYS:
        settings = dict(chosen)
        if way == "s8s8":
            if not scheme.CALIBRATES:
                continue
            settings["types"] = "s8s8"
        if scheme.CALIBRATES:
            settings |= {"calibration": calibration, "scratch": folder}  # all ways share the ranges
        graphs[way] = folder / f"{way}.onnx"
        scheme.apply(source, graphs[way], overflow_fix="none" if way == "s8s8" else way, **settings)
    return graphs


def measure(network, source, path):
    """A graph's cells but for its time, and whether its outputs are those of exact arithmetic."""
    is_fp32 = path == source
    watched = Watched(network.open(path), None if is_fp32 else network.open(source))
    found = {split: network.score(watched, split) for split in ("validation", "test")}
    metrics = [f"{each.metrics[network.job.metric]:.4f}" for each in found.values()]
    size = f"{graph_file.size_bytes(path) / 1e6:.1f}"
    if is_fp32:
        return (*metrics, "", "", "", "", size), True
    answers, rows, exact = "", "", True
    if processor.clips(processor.here()):
        exactly = Watched(network.open(path, exact=True))
        expected = {split: network.score(exactly, split) for split in found}
        decisions = [
            np.concatenate([each.decisions.ravel() for each in scored.values() if each.decisions is not None] or [[]])
            for scored in (found, expected)
        ]
        answers = f"{np.sum(decisions[0] != decisions[1]):,} of {len(decisions[0]):,}"
        different = sum(a != b for a, b in zip(watched.digests, exactly.digests, strict=True))
        rows = f"{different:,} of {len(watched.digests):,}" if different else "none"
        exact = different == 0
    pairs = overflow.check(path)
    over = f"{pairs.overflowing:,} of {pairs.pairs:,}" if pairs.products else "none: no such product"
    return (*metrics, answers, rows, f"{watched.distance:.4f}", over, size), exact


def settings_of(variant):
    """How the run made the graph, as a line above the table."""
    told = [f"{key} {value}" for key, value in variant.settings.items() if key != "overflow_fix"]
    return f"With {', '.join(told)}.\n\n" if told else ""


if __name__ == "__main__":
    sys.exit(main())
