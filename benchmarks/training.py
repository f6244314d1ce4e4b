"""tledge's training beside plain loops of torch, transformers and torchvision, on a GPU where there is one.

    python benchmarks/training.py
    python benchmarks/training.py --case tiny --case head

The plain loop is what one writes without tledge: texts tokenised once before the first epoch, each batch padded to its
longest row, rows in random order, AdamW, a linear schedule with warm-up, clipped gradients, the validation rows scored
after each epoch; pictures come from torchvision's `ImageFolder` with eight workers. Both sides have the same rows,
rates, batches and precision. Rows, tokenizers and weights are made here, at random; nothing is downloaded.

A plain loop's seconds begin with reading and tokenising, when its model is made. tledge's are those of the stage
`train` or `distill` less the time that making such a model takes: they hold the making of features, the files and the
check of the checkpoint, and for pictures the batch norms of random weights. `training` is the loop alone, for tledge
what `train.json` says of its phases. Cases that are run for few and for many epochs are compared by the difference,
where start and end count for nothing.

tledge and the plain loop run by turns, one at a time, each in a process of its own: on a CPU a new one for every
number, on a GPU one for all cases. A few rows of the case's kind train before the clock starts. Memory is the peak
that torch allocates on the GPU, or of the process's resident set.
Exits with 1 where tledge takes more of the plain loop's time than its mark.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import training_plain
from training_cases import GPU, MARKS, SIDE, Case, all_cases, make, rows_of
from training_plain import PROBE_RATE, RATE, Run

TASKS = {"photos": "image_classification", "book": "causal_lm"}
ENV = {"HF_HUB_OFFLINE": "1", "GOMP_SPINCOUNT": "10000"}
"""No hub, and idle threads that sleep as soon as tledge's do, which matters beside other work."""
RECORDS = {"train": "train/train.json", "distill": "distill/distill.json"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = all_cases()
    parser.add_argument("--case", choices=list(cases), action="append", help="all by default")
    parser.add_argument("--rounds", type=int, default=2 if GPU else 3)
    parser.add_argument("--child", choices=["tledge", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        serve(options.child)
        return 0
    print(header(), flush=True)
    missed: list[str] = []
    left_out: list[str] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        children = Children(home)
        try:
            for name in options.case or cases:
                case = cases[name]
                if why := left_out_since(case):
                    left_out.append(f"{name} is left out: {why}")
                    continue
                make(case, home)
                if case.backbone == "teacher":
                    teach(case, home)
                missed += compared(name, case, options.rounds, children)
        finally:
            children.end()
    print("", *left_out, *(missed or ["every mark is kept"]), sep="\n")
    return int(bool(missed))


def header() -> str:
    """The machine, the versions and the day, and the table's head."""
    from tledge.bench import machine

    here = machine.describe()
    card = f"{torch.cuda.get_device_name()}, " if GPU else ""
    versions = ", ".join(f"{name} {version}" for name, version in here.packages.items())
    columns = (
        "case", "", "seconds", "training", "stage", "a step", "rows a second", "peak memory", "waiting", "metric",
        "of the plain loop's time",
    )  # fmt: skip
    return (
        f"{card}{here.cpu}, {here.cores} cores, {here.system}, Python {here.python}, {versions}, "
        f"{time.strftime('%d %B %Y')}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    )


def left_out_since(case: Case) -> str:
    """Why a case is left out, in a few words; empty where it is not."""
    return "without a GPU bf16 can take minutes a step" if case.precision == "bf16" and not GPU else ""


def compared(name: str, case: Case, rounds: int, children: Children) -> list[str]:
    """Measure one case by turns and print its rows; the marks that are missed, a line each."""
    found: dict[str, list[list[Run]]] = {who: [] for who in (*case.plain, "tledge")}
    for number in range(rounds):
        for who in sorted(found, key=list(found).index, reverse=number % 2 == 1):
            found[who].append(children.ask(who, case))
            print(f"{name}, {who}: {json.dumps(found[who][-1])}", file=sys.stderr, flush=True)
    missed = []
    parts: dict[str, Callable[[list[Run]], Run]] = {"": lambda runs: runs[0]}
    if len(case.epochs) > 1:
        parts["later "] = difference
    for part, pick in parts.items():
        title = name if not part else f"{name}, epochs {case.epochs[0] + 1} to {case.epochs[1]}"
        ours = [pick(runs) for runs in found["tledge"]]
        for who in case.plain:
            print(row(title, f"plain: {who}", [pick(runs) for runs in found[who]], "1"))
        told = []
        for who in case.plain:
            ratios = [mine["seconds"] / pick(runs)["seconds"] for mine, runs in zip(ours, found[who], strict=True)]
            ratio, mark = statistics.median(ratios), MARKS.get(name, {}).get(part + who)
            told.append(f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
            told[-1] += f" of {who}" if len(case.plain) > 1 else ""
            told[-1] += "" if mark is None else f", mark {mark}"
            if mark is not None and ratio > mark:
                missed.append(f"{title}: tledge takes {ratio:.3f} of the time of {who}, more than {mark}")
        print(row(title, "tledge", ours, "; ".join(told)), flush=True)
    return missed


def difference(runs: list[Run]) -> Run:
    """What the later epochs took: the loop of the longer training less that of the shorter one."""
    few, many = runs
    seconds = many["training"] - few["training"]
    counts = {key: many[key] - few[key] for key in ("steps", "rows")}
    return many | counts | {"seconds": seconds, "training": seconds, "stage": None}


def row(title: str, who: str, runs: Sequence[Run], ratio: str) -> str:
    """One line of the table: medians over rounds."""

    def median(key: str) -> float | None:
        values = [run.get(key) for run in runs]
        return None if None in values else statistics.median(values)  # type: ignore[type-var]

    def shown(value: float | None, form: str) -> str:
        return "" if value is None else form.format(value)

    seconds, steps, rows = median("seconds") or 0.0, median("steps") or 1, median("rows") or 0
    cells = (
        title, who, f"{seconds:.2f}", shown(median("training"), "{:.2f}"), shown(median("stage"), "{:.1f}"),
        f"{seconds / steps * 1e3:.2f} ms", f"{rows / max(seconds, 1e-9):,.0f}",
        shown(median("peak_mb"), "{:,.0f} MB"), shown(median("waiting"), "{:.0%}"),
        shown(median("metric"), "{:.3f}"), ratio,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


class Children:
    """The processes that train, one at a time: on a GPU one of each kind stays for the next case."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._kept: dict[str, subprocess.Popen[str]] = {}

    def ask(self, who: str, case: Case) -> list[Run]:
        """What a training of each of the case's numbers of epochs gave."""
        kind = who if who == "tledge" else "plain"
        alone = not GPU
        child = None if alone else self._kept.get(kind)
        if child is None:
            child = self._started(kind, threads=1 if case.data == "texts-short" and not GPU else None)
        if not alone:
            self._kept[kind] = child
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(json.dumps({"home": str(self.home), "how": who, "case": asdict(case)}) + "\n")
        child.stdin.flush()
        answer = child.stdout.readline()
        if alone:
            _end(child)
        if not answer:
            log = (self.home / f"{kind}.log").read_text(encoding="utf-8", errors="replace")
            raise SystemExit(f"{kind} failed:\n{log[-4000:]}")
        runs: list[Run] = json.loads(answer)
        return runs

    def end(self) -> None:
        """End those that were kept."""
        for child in self._kept.values():
            _end(child)

    def _started(self, kind: str, *, threads: int | None) -> subprocess.Popen[str]:
        compiled = tempfile.mkdtemp(dir=self.home)
        env = {"TORCHINDUCTOR_CACHE_DIR": compiled, "TRITON_CACHE_DIR": compiled, **ENV}
        if threads is not None:  # threads cost more than they give where a step is this small
            env["OMP_NUM_THREADS"] = str(threads)
        with (self.home / f"{kind}.log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, __file__, "--child", kind],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | env,
            )  # fmt: skip


def _end(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.close()
    child.wait()


# What runs in a child


def serve(kind: str) -> None:
    """Train what each line of the standard input asks for, and answer with a line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed goes to the log
    warmed = set()
    for line in sys.stdin:
        asked = json.loads(line)
        case, home, how = Case(**asked["case"]), Path(asked["home"]), asked["how"]
        train = ours if kind == "tledge" else training_plain.all_loops()[how]
        if case.data not in warmed:
            settings = {key: value for key, value in case.settings.items() if key != "compile"}
            measured(train, replace(case, data=f"{case.data}-few", settings=settings, batch=8), 1, home)
            warmed.add(case.data)
        epochs = case.epochs if kind == "tledge" else case.plain[how]
        runs = [measured(train, case, each, home) for each in epochs]
        answers.write(json.dumps(runs) + "\n")
        answers.flush()


def teach(case: Case, home: Path) -> None:
    """The teacher of a distillation: one epoch of tledge."""
    if (home / "teacher").exists():
        return
    import tledge
    from tledge.recipe import load_recipe

    first = replace(case, backbone="mini", stage="train", settings={"strategy": "full"})
    make(first, home)
    run = tledge.run(load_recipe(written(first, 1, home, home / "teacher.yaml")), home / "teaching", until="train")
    (run / "train" / "checkpoint").rename(home / "teacher")


def measured(train: Callable[[Case, int, Path], Run], case: Case, epochs: int, home: Path) -> Run:
    """A training and the peak of memory in it."""
    if GPU:
        torch.cuda.reset_peak_memory_stats()
    run = train(case, int(epochs), home)
    run["peak_mb"] = torch.cuda.max_memory_allocated() / 1e6 if GPU else resident_peak() / 1e6
    gc.collect()
    if GPU:
        torch.cuda.empty_cache()  # the other process trains next
    return run


def resident_peak() -> int:
    """The most bytes of this process that were in memory; a child's `ru_maxrss` would begin with its parent's."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise SystemExit("/proc/self/status tells no peak")


def ours(case: Case, epochs: int, home: Path) -> Run:
    """One training by `tledge.run`, in a run folder of its own and with an empty cache."""
    import tledge
    from tledge.recipe import load_recipe

    started = time.perf_counter()
    training_plain.network(case, home)
    making = time.perf_counter() - started
    with tempfile.TemporaryDirectory(dir=home) as folder:
        os.environ["TLEDGE_CACHE"] = str(Path(folder) / "cache")
        out = Path(folder) / "run"
        tledge.run(load_recipe(written(case, epochs, home, Path(folder) / "recipe.yaml")), out, until=case.stage)
        stage = json.loads((out / "stages" / f"{case.stage}.json").read_text(encoding="utf-8"))["seconds"]
        phases = json.loads((out / RECORDS[case.stage]).read_text(encoding="utf-8"))["phases"]
    spent = [phase["time"] for phase in phases if phase.get("time")]
    total = sum(sum(each.values()) for each in spent)
    return {
        "seconds": stage - making,
        "training": sum(phase["seconds"] for phase in phases),
        "stage": stage,
        "steps": sum(phase["steps"] for phase in phases),
        "rows": rows_of(case, home) * epochs,
        "metric": phases[-1]["best_metric"],
        "waiting": sum(each.get("data", 0.0) for each in spent) / total if total else None,
    }


def written(case: Case, epochs: float, home: Path, path: Path) -> Path:
    """The recipe of a case, in a file."""
    rows = home / case.data
    end = {"texts": ".csv", "photos": "", "book": ".txt"}[case.kind]
    sources = {name: str(rows / f"{name}{end}") for name in ("train", "validation", "test")}
    rates = {"learning_rate": PROBE_RATE if case.settings.get("strategy") == "probe" else RATE}
    training = rates | {"epochs": epochs, "batch_size": case.batch, "precision": case.precision, "report_to": []}
    own = {"finetune": training | case.settings}
    if case.stage == "distill":
        own = {"finetune": {"strategy": "none"}, "distill": training | case.settings}
    model: dict[str, Any] = {"backbone": str(home / case.backbone)}
    if case.kind == "photos":
        size = {"size": SIDE, "resize": SIDE}
        model = {"backbone": f"torchvision:{case.backbone}", "weights": "none", "preprocessing": size}
    else:
        model["max_length"] = case.length
    recipe = {
        "name": "training",
        "task": TASKS.get(case.kind, "text_classification"),
        "metric": "loss" if case.kind == "book" else "accuracy",
        "data": sources | {"calibration": 0},
        "model": model | ({"pooling": "mean"} if case.kind == "texts" else {}),
        **own,
    }
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
