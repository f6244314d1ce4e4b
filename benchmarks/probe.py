"""What the cache saves: epochs on frozen features, or on activations at the freeze boundary, against the plain loop.

    python benchmarks/probe.py
    python benchmarks/probe.py recipes/solar-cells.yaml --set finetune.augmentation.flip=none
    python benchmarks/probe.py recipes/solar-cells.yaml --set finetune.augmentation.flip=none \
        --set finetune.strategy=partial --set finetune.unfreeze=2

Both train with the same settings through `tledge.run`: once on what is cached (the caching pass is counted, the cache
starts empty), once with `finetune.cache: false`, where the backbone runs in every epoch. Prints seconds of training,
the ratio, and the validation metric of both. The claims that are held over ten epochs: a probe is at least 10 times as
fast, partial training at least twice, and the metric differs by at most 0.01; otherwise the script exits with 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

import tledge
from tledge import tasks
from tledge.artifacts import read_json
from tledge.bench import machine
from tledge.recipe import load_recipe

QUICKSTART = Path(__file__).parent.parent / "recipes" / "quickstart.yaml"
CLAIMS = {"probe": 10.0, "partial": 2.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, nargs="?", default=QUICKSTART)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    overrides = [*options.set, f"finetune.epochs={options.epochs}"]
    recipe = load_recipe(options.recipe, overrides)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TLEDGE_CACHE"] = str(Path(folder) / "cache")
        # A short run first, so that neither of the two pays for imports and warming up.
        train(
            options.recipe,
            Path(folder) / "warm-up",
            [*overrides, *warm_up(Path(folder), tasks.load(recipe.task).INPUT)],
        )
        cached = train(options.recipe, Path(folder) / "cached", [*overrides, "finetune.cache=true"])
        plain = train(options.recipe, Path(folder) / "plain", [*overrides, "finetune.cache=false"])
    here = machine.describe()
    print(
        f"{here.cpu}, {here.cores} cores, {here.system}; {recipe.name}, {recipe.finetune.strategy}, "
        f"{options.epochs} epochs"
    )
    for name, (seconds, metric, note) in {"cached": cached, "plain": plain}.items():
        print(f"{name:7} {seconds:7.1f} s, validation metric {metric:.4f} ({note})")
    ratio, difference = plain[0] / cached[0], abs(plain[1] - cached[1])
    print(f"the cache is {ratio:.1f} times as fast; the metric differs by {difference:.4f}")
    return 0 if ratio >= CLAIMS[recipe.finetune.strategy] and difference <= 0.01 else 1


def warm_up(folder: Path, kind: str) -> list[str]:
    """Overrides for a run of one epoch over a hundred rows of nothing in particular."""
    short = ["finetune.epochs=1", "data.label_names={}", "data.calibration=0"]
    if kind == "text":
        path = folder / "warm-up.csv"
        rows = [f"sample number {i},{'even' if i % 2 == 0 else 'odd'}" for i in range(100)]
        path.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    else:
        path = folder / "warm-up.npz"
        noise = np.random.default_rng(0).integers(0, 256, (100, 64, 64), dtype=np.uint8)
        np.savez(path, image=noise, label=np.arange(100) % 2)
    return [*short, f"data.train={path}", "data.columns={}"]


def train(recipe: Path, folder: Path, overrides: list[str]) -> tuple[float, float, str]:
    """Seconds of the train stage, the best validation metric, and what the run says of its cache and device."""
    tledge.run(load_recipe(recipe, overrides), folder, until="train")
    seconds = read_json(folder / "stages" / "train.json")["seconds"]
    phase = read_json(folder / "train" / "train.json")["phases"][-1]
    return float(seconds), float(phase["best_metric"]), f"{phase['note']}, on {phase['device']}"


if __name__ == "__main__":
    sys.exit(main())
