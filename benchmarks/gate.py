"""How often `tledge gate` is right: the same bundle against itself, and against slowed ones, on quiet and busy cores.

    python benchmarks/gate.py [BUNDLE] [--same 200] [--slowed 60] [--duration 5] [--store gate.jsonl]

Trials take turns over what is compared (the bundle itself; slowed by 10, 5 and 3 %) and over the neighbours (none; one
on the other core; one on every core), so that a run that is stopped has all of them; a store that is there already is
gone on with. A trial is one `tledge gate` with `max_slowdown: 0.02` as a process of its own, and beside it the usual
sequential comparison: the old graph timed for a while, then the new one, medians compared.

The slowed bundles have extra matrix products behind their output, whose result is used, so that they really compute.
How many is found by timing; what they cost in the end is measured at the start and stored with the trials.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tledge import bundle
from tledge.artifacts import write_json
from tledge.bench import compare, targets
from tledge.bundle import checksum

LIMIT = 0.02
SEQUENTIAL_S = 2.0
SLOWDOWNS = (0.10, 0.05, 0.03)
SAME = "same"
NEIGHBOURS = {"quiet": 0, "one neighbour": 1, "one on every core": os.cpu_count() or 1}
NEIGHBOUR = """\
import os, sys
import numpy as np
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {int(sys.argv[1])})
a = np.ones((256, 256), np.float32)
while True:
    a = a @ a / 256
"""


def main() -> int:
    """Run the trials that the store lacks, and print what all of them show; 1 if a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", nargs="?", type=Path, default=Path("runs/quickstart/bundle"))
    parser.add_argument("--same", type=int, default=200, help="trials of the bundle against itself")
    parser.add_argument("--slowed", type=int, default=60, help="trials of each slowed bundle")
    parser.add_argument("--duration", type=float, default=5, help="seconds that gate may time, its own option")
    parser.add_argument("--store", type=Path, default=Path("gate.jsonl"), help="where trials are kept, as JSON lines")
    parser.add_argument("--summary", action="store_true", help="only print what the store has")
    given = parser.parse_args()
    if not given.summary:
        with tempfile.TemporaryDirectory() as folder:
            run_trials(given, Path(folder))
    return summarize([json.loads(line) for line in given.store.read_text(encoding="utf-8").splitlines()])


def run_trials(given: argparse.Namespace, folder: Path) -> None:
    """Append a line to the store for each trial."""
    old = targets.resolve(given.bundle)
    budget = folder / "budget.yaml"
    budget.write_text(f"max_slowdown: {LIMIT}\n", encoding="utf-8")
    news, costs = {SAME: given.bundle}, {SAME: 1.0}
    per_node = calibrate(old, folder)
    for share in SLOWDOWNS:
        name = f"{share:.0%} slower"
        news[name] = slowed_bundle(given.bundle, folder / f"slowed_{share:g}", nodes=round(share / per_node))
        costs[name] = cost(targets.resolve(news[name]), old)
        print(f"{name}: {costs[name]:.4f} of the time when quiet", flush=True)
    with given.store.open("a+", encoding="utf-8") as store:
        store.seek(0)
        done = [json.loads(line) for line in store]
        for kind, condition in plan(given.same, given.slowed, done):
            with neighbours(NEIGHBOURS[condition]):
                trial = gate(news[kind], given.bundle, budget, given.duration, folder)
                trial["sequential"] = sequential(targets.resolve(news[kind]), old, SEQUENTIAL_S)
            trial |= {"kind": kind, "condition": condition, "true": costs[kind]}
            store.write(json.dumps(trial) + "\n")
            store.flush()


def plan(same: int, slowed: int, done: list[dict[str, object]]) -> Iterator[tuple[str, str]]:
    """What to compare under which condition, by turns, until each has had its trials."""
    wanted = {(SAME, c): share(same, i) for i, c in enumerate(NEIGHBOURS)}
    wanted |= {(f"{s:.0%} slower", c): share(slowed, i) for s in SLOWDOWNS for i, c in enumerate(NEIGHBOURS)}
    for trial in done:
        wanted[trial["kind"], trial["condition"]] -= 1  # type: ignore[index]
    most = max(same, slowed) or 1
    ticks = dict.fromkeys(wanted, 0.0)
    while any(left > 0 for left in wanted.values()):
        for key, left in wanted.items():
            ticks[key] += (same if key[0] == SAME else slowed) / most
            if ticks[key] >= 1 and left > 0:
                ticks[key] -= 1
                wanted[key] -= 1
                yield key


def share(total: int, condition: int) -> int:
    """How many of all trials a condition gets."""
    return total // len(NEIGHBOURS) + (condition < total % len(NEIGHBOURS))


def gate(new: Path, old: Path, budget: Path, duration: float, folder: Path) -> dict[str, object]:
    """One `tledge gate`: its verdict, the ratio with its interval and the noise's, and the seconds of the whole."""
    file = folder / "verdict.json"
    command: tuple[str | Path, ...] = (
        sys.executable,
        "-m",
        "tledge",
        "gate",
        new,
        "--against",
        old,
        "--budget",
        budget,
    )
    start = time.monotonic()
    command += ("--duration", f"{duration:g}", "--json", file)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - start
    if done.returncode not in (0, 11, 12, 13):
        sys.exit(f"gate failed with {done.returncode}: {done.stderr}")
    verdict = json.loads(file.read_text(encoding="utf-8"))
    found = verdict["bench"]["comparisons"][0]
    return {
        "verdict": verdict["verdict"],
        "seconds": seconds,
        "ratio": [found["ratio"][key] for key in ("ratio", "low", "high")],
        "wall": [found["wall"][key] for key in ("ratio", "low", "high")],
        "noise": [found["noise"][key] for key in ("ratio", "low", "high")],
        "rounds": found["ratio"]["samples"],
        "reference_ms": found["reference_ms"],
    }


def sequential(new: targets.Target, old: targets.Target, seconds: float) -> list[float]:
    """The usual way: old for half of the time, then new; the ratio of medians and its bootstrap interval."""
    times = [np.log(timed(target, seconds / 2)) for target in (new, old)]
    rng = np.random.default_rng(0)
    medians = [np.median(each[rng.integers(0, each.size, (1000, each.size))], axis=1) for each in times]
    low, high = np.quantile(medians[0] - medians[1], [0.025, 0.975])
    return [float(np.exp(x)) for x in (np.median(times[0]) - np.median(times[1]), low, high)]


def timed(target: targets.Target, seconds: float) -> np.ndarray:
    """Nanoseconds of one run after another in one session."""
    found = []
    with compare.session_timer(target.graph, target.feeds(1, target.length())) as timer:
        for _ in range(10):
            timer()
        end = time.monotonic() + seconds
        while len(found) < 10 or time.monotonic() < end:
            found.append(timer()[0])
    return np.array(found, dtype=np.float64)


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """That many processes that multiply matrices without a pause, each on a core of its own, from the last one down."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    cores = sorted(os.sched_getaffinity(0))[::-1]
    started = [
        subprocess.Popen((sys.executable, "-c", NEIGHBOUR, str(cores[i % len(cores)])), env={**os.environ, **threads})
        for i in range(count)
    ]
    try:
        time.sleep(0.5 if count else 0)
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def calibrate(old: targets.Target, folder: Path) -> float:
    """The cost of one extra node as a share of the bundle's time, from as many as make it a twentieth slower."""
    nodes = 16
    while True:
        path = folder / "calibrated.onnx"
        slow(old.graph, path, nodes)
        ratio = cost(dataclasses.replace(old, name=f"{nodes} nodes", graph=path), old)
        if ratio > 1.05:
            return (ratio - 1) / nodes
        nodes *= 2


def cost(new: targets.Target, old: targets.Target) -> float:
    """The ratio of the times, measured at length without neighbours."""
    return compare.compare(new, old, within=0.01, duration_s=15).ratio.ratio


def slowed_bundle(source: Path, target: Path, nodes: int) -> Path:
    """A copy of a bundle whose chosen graph has extra nodes."""
    shutil.copytree(source, target)
    manifest = bundle.load(target)
    graph = target / manifest.variant(manifest.chosen).graph.path
    slow(graph, graph, nodes)
    write_json(target / "bundle.json", dataclasses.replace(manifest, files=checksum.hashes(target)))
    return target


def slow(source: Path, target: Path, nodes: int, size: int = 48) -> None:
    """A graph with extra matrix products: of its first output's mean, and added to that output times zero."""
    model = onnx.load(source)
    output = model.graph.output[0].name
    for node in model.graph.node:
        for i, name in enumerate(node.output):
            if name == output:
                node.output[i] = "extra_from"
    weights = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32) / np.sqrt(size)
    tensors = {"extra_w": weights, "extra_ones": np.ones((size, size), np.float32), "extra_zero": np.float32(0)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in tensors.items())
    model.graph.node.extend(
        [
            helper.make_node("ReduceMean", ["extra_from"], ["extra_mean"], keepdims=0),
            helper.make_node("Mul", ["extra_mean", "extra_ones"], ["extra_0"]),
            *(helper.make_node("MatMul", [f"extra_{i}", "extra_w"], [f"extra_{i + 1}"]) for i in range(nodes)),
            helper.make_node("ReduceMean", [f"extra_{nodes}"], ["extra_sum"], keepdims=0),
            helper.make_node("Mul", ["extra_sum", "extra_zero"], ["extra_nothing"]),
            helper.make_node("Add", ["extra_from", "extra_nothing"], [output]),
        ]
    )
    onnx.save(model, target)


def summarize(trials: list[dict]) -> int:
    """Print a table of all trials and the promises; 1 if one of them is not kept."""
    header = (
        *("compared", "neighbours", "trials", "ACCEPT", "INCONCLUSIVE", "REGRESSION", "ratio, mean", "half width"),
        *("seconds, median and most", "sequential: REGRESSION", "sequential: ACCEPT", "sequential: half width"),
    )
    print(f"\n| {' | '.join(header)} |\n{'|---' * len(header)}|")
    groups: dict[tuple[str, str], list[dict]] = {}
    for trial in trials:
        groups.setdefault((trial["kind"], trial["condition"]), []).append(trial)
    for kind in dict.fromkeys(kind for kind, _ in groups):
        for condition in NEIGHBOURS:
            print_row(kind, condition, groups.get((kind, condition), []))
    return promises(groups)


def print_row(kind: str, condition: str, trials: list[dict]) -> None:
    """One line of the table."""
    if not trials:
        return
    verdicts = [trial["verdict"] for trial in trials]
    counts = " | ".join(str(verdicts.count(name)) for name in ("ACCEPT", "INCONCLUSIVE", "REGRESSION"))
    seconds = [trial["seconds"] for trial in trials]
    usual = [trial["sequential"] for trial in trials]
    print(
        f"| {kind} | {condition} | {len(trials)} | {counts} "
        f"| {np.exp(np.mean(np.log([t['ratio'][0] for t in trials]))):.4f} "
        f"| {statistics.median(half_width(t['ratio']) for t in trials):.2%} "
        f"| {statistics.median(seconds):.1f}, {max(seconds):.1f} "
        f"| {sum(low > 1 + LIMIT for _, low, _ in usual)} | {sum(high <= 1 + LIMIT for _, _, high in usual)} "
        f"| {statistics.median(map(half_width, usual)):.2%} |"
    )


def half_width(ratio: list[float]) -> float:
    """Half of an interval's width."""
    return (ratio[2] - ratio[1]) / 2


def promises(groups: dict[tuple[str, str], list[dict]]) -> int:
    """Print which promises are kept; 1 if one is not."""
    everywhere = tuple(NEIGHBOURS)
    busy = everywhere[-1]
    same = [t for (kind, _), ts in groups.items() if kind == SAME for t in ts]
    checks = [("same: REGRESSION in at most 1 %", share_of(same, "REGRESSION") <= 0.01, share_of(same, "REGRESSION"))]
    for kind, conditions in (("10% slower", everywhere), ("5% slower", everywhere[:-1])):
        for condition in conditions:
            found = share_of(groups.get((kind, condition), []), "REGRESSION")
            checks.append((f"{kind}, {condition}: REGRESSION in at least 95 %", found >= 0.95, found))
    told = share_of(groups.get(("5% slower", busy), []), "REGRESSION", "INCONCLUSIVE")
    checks.append((f"5% slower, {busy}: REGRESSION or INCONCLUSIVE in at least 95 %", told >= 0.95, told))
    print()
    for text, kept, value in checks:
        print(f"{'kept' if kept else 'BROKEN'}: {text}: {value:.1%}")
    return 0 if all(kept for _, kept, _ in checks) else 1


def share_of(trials: list[dict], *verdicts: str) -> float:
    """The share of trials with one of these verdicts; NaN, which keeps no promise, without trials."""
    return sum(t["verdict"] in verdicts for t in trials) / len(trials) if trials else float("nan")


if __name__ == "__main__":
    sys.exit(main())
