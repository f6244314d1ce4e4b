"""What the feature cache saves: ten epochs of a frozen backbone, with the cache and in the plain loop.

    python benchmarks/probe.py [--data train.csv] [--epochs 10]

Both train the same head with the same settings through `tledge.run`: once on cached features (the caching pass is
counted, the cache starts empty), once with `finetune.cache: false`, where the backbone runs in every epoch. Prints
seconds of training, the ratio, and the validation accuracy of both. The claim that is held: at least 10 times as fast
over ten epochs, accuracy within 0.01; otherwise the script exits with 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import tledge
from tledge.artifacts import read_json
from tledge.bench import machine
from tledge.recipe import load_recipe

RECIPE = Path(__file__).parent.parent / "recipes" / "quickstart.yaml"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a CSV file with text and label; the quickstart's by default")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--max-length", type=int, default=128)
    options = parser.parse_args()
    overrides = [f"finetune.epochs={options.epochs}", f"model.max_length={options.max_length}"]
    if options.data:
        overrides.append(f"data.train={options.data.resolve()}")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TLEDGE_CACHE"] = str(Path(folder) / "cache")
        # A short run first, so that neither of the two pays for imports and warming up.
        train(Path(folder) / "warm-up", [*overrides, "finetune.epochs=1", "data.train=" + str(warm_up(Path(folder)))])
        cached = train(Path(folder) / "cached", [*overrides, "finetune.cache=true"])
        plain = train(Path(folder) / "plain", [*overrides, "finetune.cache=false"])
    here = machine.describe()
    print(f"{here.cpu}, {here.cores} cores, {here.system}; {options.epochs} epochs")
    for name, (seconds, accuracy) in {"cached": cached, "plain": plain}.items():
        print(f"{name:7} {seconds:7.1f} s, validation accuracy {accuracy:.4f}")
    ratio, difference = plain[0] / cached[0], abs(plain[1] - cached[1])
    print(f"the cache is {ratio:.1f} times as fast; accuracy differs by {difference:.4f}")
    return 0 if ratio >= 10 and difference <= 0.01 else 1


def warm_up(folder: Path) -> Path:
    """A hundred rows of nothing in particular."""
    path = folder / "warm-up.csv"
    rows = [f"sample number {i},{'even' if i % 2 == 0 else 'odd'}" for i in range(100)]
    path.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    return path


def train(folder: Path, overrides: list[str]) -> tuple[float, float]:
    """Seconds of the train stage, and the best validation accuracy."""
    tledge.run(load_recipe(RECIPE, overrides), folder, until="train")
    seconds = read_json(folder / "stages" / "train.json")["seconds"]
    return float(seconds), float(read_json(folder / "train" / "train.json")["phases"][-1]["best_metric"])


if __name__ == "__main__":
    sys.exit(main())
