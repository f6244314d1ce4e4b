"""What `tledge bench` adds to the runs that it times: its median against a bare loop around `session.run`.

    python benchmarks/bench_overhead.py [BUNDLE] [--blocks 60]

On the same session, in blocks of 100 runs by turns: the loop that fills the latency tables, and a bare one. A ratio is
that of the two medians of a pair of blocks, and its interval the bootstrap's over pairs. Done for the variant that a
bundle chose and for a graph of some tens of microseconds, which shows what a run costs beyond the graph. Fails when a
ratio is above 1.02, and tells when its interval is too wide to say. Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from tledge.artifacts import LatencyRatio
from tledge.bench import latency, machine, stats, targets
from tledge.evaluate import Array
from tledge.runtime.session import bound_run, open_session

MOST = 1.02
SMALL = 256
"""Rows and columns of the small graph's weights."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("runs/quickstart/bundle"))
    parser.add_argument("--blocks", type=int, default=60, help="Pairs of blocks.")
    options = parser.parse_args()
    here = machine.describe()
    print(f"{here.cpu}, {here.cores} cores, {here.system}, onnxruntime {here.onnxruntime}")
    target = targets.resolve(options.bundle)
    with tempfile.TemporaryDirectory() as folder:
        graph = small_graph(Path(folder) / "small.onnx")
        ratios = [
            compare(target.name, target.graph, target.feeds(1, target.length()), options.blocks),
            compare("small graph", graph, {"x": np.ones((1, SMALL), dtype=np.float32)}, options.blocks),
        ]
    if any(ratio.low <= MOST < ratio.high for ratio in ratios):
        print(f"an interval reaches over {MOST}: use more blocks, or a quieter machine")
    return 0 if all(ratio.ratio <= MOST for ratio in ratios) else 1


def compare(name: str, graph: Path, feeds: Mapping[str, Array], blocks: int) -> LatencyRatio:
    """Medians of bench's loop to those of the bare one, printed."""
    session = open_session(graph, threads=1)
    loops: dict[str, Callable[[], list[float]]] = {
        "bench": functools.partial(benched, session, feeds),
        "bare": functools.partial(bare, session, feeds),
    }
    medians: dict[str, list[float]] = {loop: [] for loop in loops}
    for block in range(blocks):
        for loop in latency.order(list(loops), block):
            medians[loop].append(statistics.median(loops[loop]()))
    ratio = stats.paired_ratio(medians["bench"], medians["bare"], name="bare")
    found, plain = statistics.median(medians["bench"]), statistics.median(medians["bare"])
    print(
        f"{name}: bench {found:.4f} ms, bare {plain:.4f} ms, {1e3 * (found - plain):+.1f} µs; "
        f"ratio {ratio.ratio:.4f} ({ratio.low:.4f} to {ratio.high:.4f})"
    )
    return ratio


def benched(session: ort.InferenceSession, feeds: Mapping[str, Array]) -> list[float]:
    """Milliseconds of 100 runs as `tledge bench` times them."""
    return latency.measure({"graph": bound_run(session, feeds)}, reference="graph", percentile=50)["graph"]


def bare(session: ort.InferenceSession, feeds: Mapping[str, Array]) -> list[float]:
    """Milliseconds of as many runs, with nothing around `session.run` but the clock, after as many to warm up."""
    known = {tensor.name: feeds[tensor.name] for tensor in session.get_inputs()}
    samples: list[float] = []
    for _ in range(5):
        session.run(None, known)
    with latency.no_garbage_collection():
        for _ in range(latency.MIN_ROUNDS):
            start = time.perf_counter_ns()
            session.run(None, known)
            samples.append((time.perf_counter_ns() - start) / 1e6)
    return samples


def small_graph(path: Path) -> Path:
    """Eight layers `relu(x @ w)`, of some tens of microseconds."""
    weight = np.random.default_rng(0).normal(0, 0.05, (SMALL, SMALL)).astype(np.float32)
    nodes = []
    for layer in range(8):
        last = "x" if layer == 0 else f"y{layer - 1}"
        nodes.append(helper.make_node("MatMul", [last, "w"], [f"a{layer}"]))
        nodes.append(helper.make_node("Relu", [f"a{layer}"], [f"y{layer}"]))
    shape = ["batch", SMALL]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y7", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


if __name__ == "__main__":
    sys.exit(main())
