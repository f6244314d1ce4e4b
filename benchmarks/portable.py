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
import dataclasses
import hashlib
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tledge import artifacts, evaluate, graph_file, overflow, plugins, processor
from tledge.artifacts import Graph, Variant, read_json
from tledge.bench.machine import describe
from tledge.bench.table import ratio
from tledge.errors import TledgeError
from tledge.quantize.run import SCHEMES
from tledge.recipe import load_recipe
from tledge.stages import Job
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
        outputs = named = self.run(tensors)
        self.digests.append(hashlib.blake2b(b"".join(each.tobytes() for each in named.values())).digest())
        if self.fp32 is not None:
            expected = self.fp32(tensors)
            for name, each in named.items():
                self.squares += float(np.sum((each.astype(np.float64) - expected[name]) ** 2))
                self.numbers += each.size
        return outputs

    @property
    def distance(self):
        return (self.squares / self.numbers) ** 0.5


class Network:
    """A finished run's graph: how it is scored, calibrated and timed. A language model's answers are its tokens."""

    def __init__(self, job, n_rows):
        self.job, self.inputs = job, job.stage("export") / "inputs"
        self.rows = {split: self._rows(split, n_rows) for split in ("validation", "test")}
        self.kept = job.rows.scored(job, "calibration", self.inputs)
        self.open = job.runs.open_run
        self.fp32 = artifacts.from_dict(Graph, read_json(job.stage("export") / "graph.json"))

    def _rows(self, split, n_rows):
        rows = self.job.rows.scored(self.job, split, self.inputs)
        return dataclasses.replace(rows, values=rows.values[:n_rows], targets=rows.targets[:n_rows])

    def score(self, run, split):
        rows = self.rows[split]
        return evaluate.score(run, rows.encoder, rows.values, rows.targets, self.job.task)

    def calibration(self):
        return (self.kept.encoder.encode([value]) for value in self.kept.values)

    def time(self, graphs):
        timing = self.job.runs.timing(self.job, self.fp32, self.inputs)
        return timed(self.job, graphs, timing.feeds, timing.length)


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
    network = Network(job, n_rows)
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
        same = [each.agree(expected[split]) for split, each in found.items()]
        same = np.concatenate([np.ravel(each) for each in same if each is not None] or [[]])
        answers = f"{np.sum(same == 0):,} of {len(same):,}"
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
