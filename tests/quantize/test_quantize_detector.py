"""Detectors in int8: decoding and suppression stay as they are, and the large maps where that is asked for."""

import numpy as np
import onnx
import pytest
from tiny_detector import SIZE, TinyDetector

from tledge import export, tasks
from tledge.quantize.schemes import int8_static
from tledge.recipe.schema import Quantize
from tledge.runtime import open_session, session_run


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector")
    detector, sample = TinyDetector(), np.zeros((2, 3, *SIZE), np.float32)
    export.export_candidates(detector, {"pixel_values": sample}, folder / "raw.onnx", opset=20, external_data=False)
    export.suppress_in_graph(folder / "raw.onnx", folder / "model.onnx", detector.suppression)
    return folder / "model.onnx"


def rows(n=6):
    rng = np.random.default_rng(3)
    return [{"pixel_values": rng.standard_normal((1, 3, *SIZE)).astype(np.float32)} for _ in range(n)]


@pytest.mark.parametrize("keep_float", ["none", "first", "worst"])
def test_regions_stay_in_float(graph, tmp_path, keep_float):
    target = tmp_path / "model_quantized.onnx"
    int8_static.apply(graph, target, calibration=lambda: iter(rows()), keep_float=keep_float, n_worst=1)
    made, original = onnx.load(target), onnx.load(graph)
    end = [[node for node in each.graph.node if node.name.startswith("nms/")] for each in (made, original)]
    assert end[0] == end[1]
    assert list(made.graph.output) == list(original.graph.output)
    rounded = {node.output[0] for node in made.graph.node if node.op_type == "DequantizeLinear"}
    in_int8 = {node.name for node in made.graph.node if node.op_type == "Conv" and set(node.input[1:2]) & rounded}
    decoding = [node for node in made.graph.node if node.name.startswith("decode/")]
    assert decoding and not any("Quantize" in node.op_type for node in decoding)
    behind = [node for node in made.graph.node if node.name.startswith("head/") and node.op_type != "Conv"]
    assert len(behind) > 2
    assert not {name for node in behind[1:] for name in node.input} & rounded  # the first reads the layer's
    layers = [node.name for node in original.graph.node if node.op_type == "Conv"]
    expected = {"none": len(layers), "first": len(layers) - 1, "worst": len(layers) - 1}
    assert len(in_int8) == expected[keep_float]
    if keep_float == "first":
        assert layers[0] not in in_int8
    before, after = (session_run(open_session(path)) for path in (graph, target))
    for row in rows(2):
        ours, theirs = after(row), before(row)
        assert ours["labels"].shape == theirs["labels"].shape
        np.testing.assert_allclose(ours["scores"][0, :3], theirs["scores"][0, :3], atol=0.15)


def test_detectors_are_searched_from_the_input_side():
    kept = tasks.keep_float(tasks.load("object_detection"))
    assert kept is not None and kept[0] == "first"
    assert tasks.keep_float(tasks.load("image_classification")) is None
    plain = Quantize()
    assert {choice["keep_float"] for choice in int8_static.candidates(plain)} == {"none", "ends", "worst"}
