"""Parity of a bundle's golden outputs here, of language models too, whose predictions are no numbers to subtract."""

import language_bundle
import numpy as np
import pytest

from tledge import bundle
from tledge.bundle import golden, golden_language
from tledge.gate.parity import parity


@pytest.mark.parametrize(("variant", "low", "high"), [("fp32", 0, 1e-5), ("int8", 1e-3, 0.5)])
def test_of_a_language_model(variant, low, high):
    folder = language_bundle.shared()
    manifest = bundle.load(folder)
    graph = manifest.variant(variant).graph
    run = golden_language.graph_run(language_bundle.open_run(folder / graph.path), graph.inputs)
    vectors = golden.read(folder, manifest.golden)
    found = parity(vectors, run)
    assert low <= found.error <= high
    stored = vectors.outputs.values()
    furthest = max(np.abs(by[variant]["logits"] - by["torch"]["logits"]).max() for by in stored)
    largest = max(np.abs(by["torch"]["logits"]).max() for by in stored)
    assert found.max_abs_diff == pytest.approx(furthest, abs=1e-5)
    assert found.error == pytest.approx(furthest / largest, abs=1e-6)
