"""One small member of every family of torchvision's classifiers, through the whole chain: does it work, is int8 faster?

    python benchmarks/zoo.py photos.npz [--only resnet18 --only vit_b_16] [--weights mobilenet_v2=mobilenet_v2.pth]

`photos.npz` holds `image` (rows, height, width[, 3]) uint8 and `label`; without it 300 of the elpv_dataset package's
photos are taken. For each network: the head is replaced, the backbone frozen and counted, the head trained on cached
features, the graph exported and held to parity, and `int8_static` tried, scored and timed against fp32 in one
interleaved run at batch 1 with one thread. Without `--weights` the weights are random, their normalisation statistics
taken from the photos, so that structure, parity, agreement and speed mean something, and the metric does not. Writes a
Markdown table to standard output as it goes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

import tledge
from tledge import artifacts
from tledge.artifacts import Variant, read_json
from tledge.bench import machine
from tledge.errors import TledgeError
from tledge.recipe.schema import Recipe

FAMILIES = (
    "alexnet", "vgg11", "resnet18", "inception_v3", "squeezenet1_1", "densenet121", "mobilenet_v2",
    "mobilenet_v3_small", "shufflenet_v2_x1_0", "efficientnet_b0", "regnet_y_400mf", "mnasnet1_0", "googlenet",
    "convnext_tiny", "vit_b_16", "swin_t", "maxvit_t",
)  # fmt: skip
EXTREMES = 40
HEADER = (
    "| network | weights | backbone parameters, frozen | fp32 MB | parity cases, largest difference | int8_static | "
    "MB | of fp32's time | same answers | fp32 ms | verdict |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="?", help="an .npz file with the arrays image and label")
    parser.add_argument("--only", action="append", choices=FAMILIES, help="this network; repeatable")
    parser.add_argument("--weights", action="append", default=[], metavar="NAME=FILE", help="a network's weights")
    parser.add_argument("--types", default="u8s8", help="types that int8_static tries, such as u8s8,s8s8")
    options = parser.parse_args()
    weights = dict(each.split("=", 1) for each in options.weights)
    here = machine.describe()
    print(f"{here.cpu}, {here.cores} cores, {here.system}, onnxruntime {here.onnxruntime}\n\n{HEADER}", flush=True)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TLEDGE_CACHE"] = str(Path(folder) / "cache")
        photos = options.photos or few_photos(Path(folder) / "photos.npz")
        for name in options.only or FAMILIES:
            recipe = recipe_of(name, photos, weights.get(name), options.types.split(","))
            try:
                run = tledge.run(recipe, Path(folder) / name, until="quantize")
                print(row(name, run, recipe), flush=True)
            except TledgeError as error:
                failed += 1
                print(f"| {name} | FAILED: {error} |", flush=True)
    return 1 if failed else 0


def few_photos(path: Path) -> Path:
    """300 solar cells, 150 of which are surely defective and 150 surely not, and 40 images of noise.

    A random network whose batch norms have seen photos of one kind alone answers noise, black and white with numbers so
    large that torch's own rounding decides them, and no comparison with a graph means anything there.
    """
    from elpv_dataset.utils import load_dataset

    photos, chance, _ = load_dataset()
    rows = np.concatenate([np.flatnonzero(chance == value)[:150] for value in (0.0, 1.0)])
    labels = np.where(chance[rows] > 0, "defective", "functional")
    rng = np.random.default_rng(0)
    shape = (EXTREMES, *photos.shape[1:])
    extremes = (
        rng.random(shape) * rng.random((EXTREMES, 1, 1)) * 256 + rng.integers(-128, 129, (EXTREMES, 1, 1))
    ).clip(0, 255)
    images = np.concatenate([photos[rows], extremes.astype(np.uint8)])
    order = rng.permutation(len(images))
    np.savez(path, image=images[order], label=np.concatenate([labels, labels[:EXTREMES]])[order])
    return path


def recipe_of(name: str, photos: Path, weights: str | None, types: list[str]) -> Recipe:
    """A probe on frozen features, an export, and one scheme."""
    return Recipe.model_validate(
        {
            "name": name,
            "task": "image_classification",
            "data": {"train": str(photos.resolve()), "validation": 60, "test": 60, "calibration": 40},
            "model": {"backbone": f"torchvision:{name}", "weights": weights or "none"},
            "finetune": {"epochs": 20, "report_to": []},
            "quantize": {
                "schemes": ["int8_static"],
                "int8_static": {"types": types, "methods": ["minmax"], "keep_float": ["none", "ends"]},
            },
            "budget": {"max_metric_drop": 0.05},
            "bench": {"duration_s": 60},
        }
    )


def row(name: str, run: Path, recipe: Recipe) -> str:
    """The network's line of the table."""
    trained = read_json(run / "train" / "train.json")
    parity = read_json(run / "export" / "parity.json")
    fp32, int8 = (artifacts.from_dict(Variant, each) for each in read_json(run / "quantize" / "variants.json"))
    ratio = int8.against_fp32
    frozen = trained["parameters"] - trained["trained_parameters"]
    cells = (
        name,
        "given" if recipe.model.weights != "none" else "random",
        f"{frozen:,}",
        f"{fp32.graph.size_bytes / 1e6:.1f}",
        f"{sum(case['passed'] for case in parity)} of {len(parity)}, {max(c['max_abs_diff'] for c in parity):.1e}",
        ", ".join(int8.settings.values()),
        f"{int8.graph.size_bytes / 1e6:.1f}",
        "-" if ratio is None else f"{ratio.ratio:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
        "-" if int8.agreement is None else f"{int8.agreement:.2f}",
        "-" if fp32.latency_ms is None else f"{fp32.latency_ms:.1f}",
        "int8_static ships" if int8.chosen else f"fp32 ships: {int8.reason}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
