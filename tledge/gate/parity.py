"""How far a variant's golden outputs are here from those that torch gave."""

from __future__ import annotations

import numpy as np

from tledge.bundle import golden
from tledge.gate.measurements import Parity


def parity(vectors: golden.Vectors, run: golden.Run) -> Parity:
    """How far a graph's golden outputs are from torch's, in all cases; a share of torch's largest of each output.

    Whole numbers are predictions, of which two may be nearly as good: only the numbers behind them are compared.

    Raises:
        BundleError, InputError: the graph cannot run, or gives other tensors than the stored ones.
    """
    worst, errors = 0.0, []
    got = golden.outputs_of(vectors, run)
    golden.require_comparable(vectors, golden.REFERENCE, got)
    for name in next(iter(vectors.outputs.values()))[golden.REFERENCE]:
        expected = {case: by_source[golden.REFERENCE][name] for case, by_source in vectors.outputs.items()}
        if all(np.issubdtype(array.dtype, np.integer) for array in expected.values()):
            continue
        largest = max(float(np.abs(array).max(initial=0)) for array in expected.values())
        apart = [np.abs(got[case][name].astype(np.float64) - array).max(initial=0) for case, array in expected.items()]
        furthest = float(np.max(apart))  # a NaN stays one
        worst = float(np.max([worst, furthest]))
        errors.append(furthest / largest if largest else float(np.where(furthest == 0, 0.0, np.inf)))
    return Parity(worst, float(np.max(errors)))
