"""How far a bundle's outputs on this machine are from its golden outputs, which the machine that made it gave.

    python benchmarks/golden_distance.py BUNDLE [BUNDLE...]

A share of the largest golden output, for each variant: one JSON object a bundle. Needs what a device install has, so
that it runs on a device, also an emulated one (`benchmarks/arm64.sh`).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from tledge import bundle
from tledge.artifacts import Variant
from tledge.bundle import golden, golden_language
from tledge.runtime import open_session, session_run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    for path in parser.parse_args().bundles:
        folder = bundle.find(path)
        manifest = bundle.load(folder)
        vectors = golden.read(folder, manifest.golden)
        found = {each.name: distance(folder, manifest, vectors, each) for each in manifest.variants}
        print(json.dumps({"bundle": str(path), "variants": found}))
    return 0


def distance(
    folder: Path, manifest: bundle.Manifest, vectors: golden.Vectors, variant: Variant
) -> dict[str, str | float]:
    """Of one variant: `scheme`, and the `largest` and `root_mean_square` difference as shares of the largest output."""
    run = session_run(open_session(folder / variant.graph.path))
    if manifest.generation is not None:
        run = golden_language.graph_run(run, variant.graph.inputs)
    got = golden.outputs_of(vectors, run)
    largest = square = 0.0
    stored = {case: by_source[variant.name] for case, by_source in vectors.outputs.items()}
    for name, first in next(iter(stored.values())).items():
        if not np.issubdtype(first.dtype, np.floating):
            continue
        expected = np.concatenate([outputs[name].ravel() for outputs in stored.values()]).astype(np.float64)
        here = np.concatenate([got[case][name].ravel() for case in stored]).astype(np.float64)
        shares = np.abs(here - expected) / np.abs(expected).max()
        largest = max(largest, float(shares.max()))
        square = max(square, float(np.sqrt((shares**2).mean())))
    return {"scheme": variant.scheme, "largest": largest, "root_mean_square": square}


if __name__ == "__main__":
    sys.exit(main())
