import shutil
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import tiny_images
from onnx import numpy_helper

from tledge import export, significance, tasks
from tledge.artifacts import LatencyRatio
from tledge.errors import RecipeError
from tledge.evaluate import score
from tledge.inputs.image import Facts, ImageInput
from tledge.quantize.choose import Limits
from tledge.quantize.run import run
from tledge.quantize.schemes import fp16, int8_dynamic, int8_static
from tledge.recipe.schema import Int8Static, Quantize
from tledge.runtime import open_session, session_run

ENCODER = tiny_images.ENCODER
IMAGES = tiny_images.pictures(24, seed=3)
FLOAT, INT8, UINT8 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT8, onnx.TensorProto.UINT8


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """The fp32 graph of a tiny network, and a folder for what candidates of it share."""
    folder = tmp_path_factory.mktemp("fp32")
    (folder / "scratch").mkdir()
    path = folder / "model.onnx"
    made = export.export(tiny_images.network(), ENCODER.dummy(2), path, opset=20, external_data=False)
    return SimpleNamespace(path=path, made=made, scratch=folder / "scratch")


def calibration():
    return (ENCODER.encode([image]) for image in IMAGES[:12])


def outputs(path, encoder=ENCODER):
    run = session_run(open_session(path, threads=1))
    return np.concatenate([run(encoder.encode([image]))["logits"] for image in IMAGES])


def weights(path):
    """The types of stored arrays of more than one axis."""
    return {t.name: t.data_type for t in onnx.load(path).graph.initializer if len(t.dims) > 1}


@pytest.mark.parametrize("types", ["u8s8", "u8u8", "s8s8"])
@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_every_type_and_method_is_small_and_near_fp32(types, method, graph, tmp_path):
    target = tmp_path / "variant.onnx"
    int8_static.apply(graph.path, target, calibration=calibration, scratch=graph.scratch, types=types, method=method)
    exact, got = outputs(graph.path), outputs(target)
    assert 0 < np.abs(got - exact).max() < 0.1 * np.ptp(exact)
    stored = onnx.load(target)
    assert set(weights(target).values()) == {UINT8 if types == "u8u8" else INT8}
    pairs = {node.input[2]: node for node in stored.graph.node if node.op_type == "QuantizeLinear"}
    zeros = {t.name: t.data_type for t in stored.graph.initializer}
    assert {zeros[name] for name in pairs} == {INT8 if types == "s8s8" else UINT8}


def test_the_graph_is_whole_signed_alike_and_gives_logits_that_were_not_rounded(graph, tmp_path):
    target = tmp_path / "variant.onnx"
    int8_static.apply(graph.path, target, calibration=calibration, scratch=graph.scratch)
    stored, fp32 = onnx.load(target), onnx.load(graph.path)
    onnx.checker.check_model(stored)
    for kind in ("input", "output"):
        assert getattr(stored.graph, kind) == getattr(fp32.graph, kind)
    assert (stored.ir_version, stored.producer_name) == (fp32.ir_version, "tledge")
    assert [entry.domain for entry in stored.opset_import] == [""]
    assert not stored.metadata_props
    maker = next(node for node in stored.graph.node if "logits" in node.output)
    assert maker.op_type == "Gemm"
    convolution = next(node for node in stored.graph.node if node.op_type == "Conv")
    scale = next(node.input[1] for node in stored.graph.node if convolution.input[1] in node.output)
    assert list(next(t for t in stored.graph.initializer if t.name == scale).dims) == [16]
    assert {"Clip", "Relu"}.isdisjoint(node.op_type for node in stored.graph.node)


def test_ends_keeps_the_first_and_the_last_layer_in_float(graph, tmp_path):
    target = tmp_path / "variant.onnx"
    int8_static.apply(graph.path, target, calibration=calibration, scratch=graph.scratch, keep_float="ends")
    kept = {name for name, kind in weights(target).items() if kind == FLOAT}
    assert kept == {"stem.0.weight", "classifier.weight"}


def test_the_layer_that_loses_most_is_kept_in_float(graph, tmp_path):
    model = onnx.load(graph.path)
    tensor = next(t for t in model.graph.initializer if t.name == "block.0.weight")
    weight = numpy_helper.to_array(tensor).copy()
    weight[:, 0, 0, 0] = 500 * np.abs(weight).max()  # one value of each channel takes all the steps there are
    tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    source, target = tmp_path / "model.onnx", tmp_path / "variant.onnx"
    onnx.save(model, source)
    int8_static.apply(source, target, calibration=calibration, keep_float="worst", n_worst=1)
    assert {name for name, kind in weights(target).items() if kind == FLOAT} == {"block.0.weight"}
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "variant.onnx"}


def test_ranges_are_of_all_rows_and_found_once(graph, tmp_path):
    calls = []

    def rows():
        calls.append(1)
        dim, bright = ({"pixel_values": np.full((1, 3, 32, 32), value, np.float32)} for value in (0.1, 7.0))
        return iter([dim, bright, dim])

    (tmp_path / "scratch").mkdir()
    for i, keep_float in enumerate(("none", "ends")):
        target = tmp_path / f"{i}.onnx"
        int8_static.apply(
            graph.path, target, calibration=rows, scratch=tmp_path / "scratch", method="minmax", keep_float=keep_float
        )
    assert len(calls) == 2  # once for the ranges, and once for the means of what layers read
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / "0.onnx").graph.initializer}
    np.testing.assert_allclose(stored["pixel_values_scale"], 7.0 / 255, rtol=1e-4)


@pytest.mark.parametrize("mode", ["normalize", "resize_and_normalize"])
def test_preprocessing_in_the_graph_stays_as_it_is(mode, graph, tmp_path):
    source = shutil.copy(graph.path, tmp_path / "model.onnx")
    export.add_preprocessing(source, tiny_images.FACTS, mode)
    facts = {name: getattr(tiny_images.FACTS, name) for name in Facts.__slots__}
    encoder = ImageInput(Facts(**facts | {"in_graph": mode}))

    def prefix(path):
        nodes = [node for node in onnx.load(path).graph.node if node.name.startswith("preprocess/")]
        return sorted(node.op_type for node in nodes)

    rows = lambda: (encoder.encode([image]) for image in IMAGES[:8])  # noqa: E731
    for name, scheme, more in (
        ("static", int8_static, {"calibration": rows}),
        ("dynamic", int8_dynamic, {}),
        ("half", fp16, {}),
    ):
        target = tmp_path / f"{name}.onnx"
        scheme.apply(source, target, **more)
        assert prefix(target) == prefix(source) != []
        exact, got = outputs(source, encoder), outputs(target, encoder)
        assert np.abs(got - exact).max() < 0.1 * np.ptp(exact)
    np.testing.assert_allclose(outputs(source, encoder), outputs(graph.path), atol=0.1)


def test_likely_candidates_come_first():
    choices = int8_static.candidates(Quantize())
    assert len(choices) == 27
    assert choices[0] == {"types": "u8s8", "method": "minmax", "keep_float": "none"}
    assert [choice["types"] for choice in choices[:3]] == ["u8s8", "u8u8", "s8s8"]
    order = [(choice["method"], choice["keep_float"]) for choice in choices if choice["types"] == "u8s8"]
    assert order[:4] == [("minmax", "none"), ("minmax", "ends"), ("minmax", "worst"), ("entropy", "none")]
    assert order[-1] == ("percentile", "worst")
    assert {choice["n_worst"] for choice in choices if choice["keep_float"] == "worst"} == {4}


@pytest.fixture
def quantize(graph, tmp_path):
    """`quantize(task, drop)` runs the scheme with made-up timings, on rows whose answers are those of fp32."""

    def go(task, targets, *, ratio=0.5, n_calibration=12):
        shutil.copy(graph.path, tmp_path / "model.onnx")
        return run(
            graph.made,
            tmp_path,
            schemes=["int8_static"],
            settings=Quantize(int8_static=Int8Static(types=["u8s8", "s8s8"], methods=["minmax"], keep_float=["none"])),
            calibration=calibration,
            n_calibration=n_calibration,
            score=lambda path, name: score(session_run(open_session(path)), ENCODER, IMAGES, targets, task),
            compare=lambda ours, fp32: significance.paired(
                task, task.METRIC, ours.records, targets, fp32.records, targets, reference="fp32"
            ),
            time=lambda graphs: {
                name: (1.0, None if name == "fp32" else LatencyRatio("fp32", ratio, ratio, ratio, 9)) for name in graphs
            },
            time_at="batch 1, 1 thread",
            limits=Limits(task.METRIC, 0.1),
        )

    return go


def test_a_run_with_one_scheme_tells_how_its_variant_was_made(graph, quantize, tmp_path):
    task = tasks.load("image_classification")
    (fp32, int8), candidates = quantize(task, outputs(graph.path).argmax(1))
    assert int8.graph.path == "model_quantized.onnx"
    assert int8.chosen
    assert fp32.agreement == 1
    assert int8.agreement > 0.8
    assert int8.settings["types"] in ("u8s8", "s8s8")
    assert int8.settings["calibration_rows"] == "12"
    assert [candidate.picked for candidate in candidates].count(True) == 1
    assert all(candidate.reason for candidate in candidates)
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model_quantized.onnx"}


def test_all_types_slower_than_fp32_is_reported_and_refused(graph, quantize):
    (fp32, int8), candidates = quantize(tasks.load("image_classification"), outputs(graph.path).argmax(1), ratio=1.5)
    assert fp32.chosen
    assert "slower than fp32 here" in int8.reason
    assert [candidate.picked for candidate in candidates].count(True) == 1


def test_numbers_have_no_agreement(graph, quantize):
    task = tasks.load("image_regression")
    (fp32, int8), _ = quantize(task, outputs(graph.path)[:, 0].astype(np.float32))
    assert fp32.agreement is int8.agreement is None
    assert int8.metrics["r2"] > 0.9


def test_no_calibration_rows_are_refused(graph, quantize):
    with pytest.raises(RecipeError, match=r"^quantize\.schemes: int8_static needs calibration rows; set data\.calibra"):
        quantize(tasks.load("image_classification"), outputs(graph.path).argmax(1), n_calibration=0)
