"""Detectors that answer with a set: their candidates in whatever order, and detections without suppression."""

import numpy as np
import onnx
import pytest
import tiny_set_detectors
from tiny_set_detectors import N_LABELS, SIZE

from tledge import export
from tledge.quantize.schemes import int8_static
from tledge.runtime import open_session, session_run

N_QUERIES = 10


def images(n, seed=1):
    return np.random.default_rng(seed).standard_normal((n, 3, *SIZE)).astype(np.float32)


@pytest.fixture(
    scope="module",
    params=["yolos", *(pytest.param(f, marks=pytest.mark.slow) for f in tiny_set_detectors.FAMILIES if f != "yolos")],
)
def exported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    detector = tiny_set_detectors.made(request.param)
    sample = {"pixel_values": images(2)}
    graph = export.export_candidates(detector, sample, folder / "raw.onnx", opset=20, external_data=False)
    export.suppress_in_graph(folder / "raw.onnx", folder / "model.onnx", detector.suppression)
    return detector, folder, graph


def test_sets_are_torchs_at_any_batch(exported):
    detector, folder, graph = exported
    told = [(each.name, each.shape) for each in graph.outputs]
    assert told == [("boxes", ("batch_size", N_QUERIES, 4)), ("scores", ("batch_size", N_LABELS, N_QUERIES))]
    cases = [(f"batch {n}", {"pixel_values": images(n, seed=n)}, False) for n in (1, 3)]
    before, after = (session_run(open_session(folder / name)) for name in ("raw.onnx", "model.onnx"))
    found = export.compare_detector(detector, before, after, cases, atol=1e-4, rtol=1e-4)
    assert len(found) == 4 and all(case.passed for case in found), found
    assert all(np.ptp(before(feeds)["scores"]) > 0.1 for _, feeds, _ in cases)
    assert {node.op_type for node in onnx.load(folder / "model.onnx").graph.node}.isdisjoint({"NonMaxSuppression"})


def test_queries_stay_in_float(exported, tmp_path):
    _, folder, _ = exported
    target = tmp_path / "model_quantized.onnx"
    rows = [{"pixel_values": images(1, seed=i)} for i in range(3)]
    int8_static.apply(folder / "model.onnx", target, calibration=lambda: iter(rows))
    made = onnx.load(target)
    rounded = {node.output[0] for node in made.graph.node if node.op_type == "DequantizeLinear"}
    layers = {node.name: set(node.input) & rounded for node in made.graph.node if node.op_type in int8_static.LAYERS}
    assert any(layers.values())
    assert not any(found for name, found in layers.items() if ".decoder." in name or ".enc_" in name)
    found = session_run(open_session(target))(rows[0])
    assert np.isfinite(found["scores"]).all()


def test_an_order_of_its_own_is_undone():
    rng = np.random.default_rng(0)
    one = {
        "boxes": rng.random((2, 5, 4)).astype(np.float32),
        "scores": rng.random((2, 3, 5)).astype(np.float32),
    }
    other = {"boxes": one["boxes"][:, [3, 0, 1, 4, 2]], "scores": one["scores"][..., [3, 0, 1, 4, 2]]}
    found = export.in_order_of(lambda _: one, lambda _: other)({})
    for name, each in one.items():
        np.testing.assert_array_equal(found[name], each)
