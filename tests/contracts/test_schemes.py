"""Every quantization scheme on disk is held to the contract of its package, on one small graph."""

import importlib
import inspect
import re

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tledge import overflow, plugins
from tledge.recipe.schema import Quantize

SCHEMES = "tledge.quantize.schemes"
ALL = plugins.names(SCHEMES)


@pytest.fixture
def source(tmp_path):
    """An embedding, its mean and a linear layer: `(batch, sequence) int64` to `(batch, 400) float32`."""
    rng = np.random.default_rng(0)
    tensors = {"table": rng.normal(size=(60, 64)), "weight": rng.normal(size=(64, 400)), "bias": rng.normal(size=400)}
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in tensors.items()]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"]),
        helper.make_node("ReduceMean", ["words", "axis"], ["mean"], keepdims=0),
        helper.make_node("Gemm", ["mean", "weight", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "bag",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 400])],
        [*weights, numpy_helper.from_array(np.array([1]), "axis")],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_the_schemes_are_found():
    assert {"int8_dynamic", "int8_static", "int4_weight_only", "int8_weight_only", "fp16"} <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_holds_what_the_package_documents(name):
    scheme = plugins.load(SCHEMES, name)
    documented = re.findall(r"^`(\w+)`", importlib.import_module(SCHEMES).__doc__, re.MULTILINE)
    assert documented == ["SUFFIX", "CALIBRATES", "TAKES_OVERFLOW_FIX", "apply", "candidates"]
    assert all(hasattr(scheme, attribute) for attribute in documented[:4])
    assert re.fullmatch(r"[a-z0-9]+", scheme.SUFFIX)
    assert isinstance(scheme.CALIBRATES, bool)
    assert isinstance(scheme.TAKES_OVERFLOW_FIX, bool)
    taken = list(inspect.signature(scheme.apply).parameters)
    assert taken[:2] == ["source", "target"]
    assert ("calibration" in taken) == scheme.CALIBRATES
    assert ("overflow_fix" in taken) == scheme.TAKES_OVERFLOW_FIX
    if hasattr(scheme, "candidates"):
        choices = scheme.candidates(Quantize())
        assert "scratch" in taken
        assert len({tuple(choice.items()) for choice in choices}) == len(choices) > 1
        assert all(set(choice) <= set(taken) for choice in choices)
    else:
        assert len(taken) == 2 + scheme.CALIBRATES + scheme.TAKES_OVERFLOW_FIX
    assert scheme.__doc__ and scheme.apply.__doc__


def test_each_scheme_has_a_suffix_of_its_own():
    suffixes = [plugins.load(SCHEMES, name).SUFFIX for name in ALL]
    assert len(set(suffixes)) == len(suffixes)


@pytest.mark.parametrize("name", ALL)
def test_variant_is_smaller_takes_the_same_inputs_and_answers_alike(name, source, tmp_path):
    before = source.read_bytes()
    target = tmp_path / "variant.onnx"
    scheme, rng = plugins.load(SCHEMES, name), np.random.default_rng(2)
    rows = [{"ids": rng.integers(0, 60, (1, 7))} for _ in range(20)]
    scheme.apply(source, target, **({"calibration": lambda: iter(rows)} if scheme.CALIBRATES else {}))
    assert source.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "variant.onnx"}
    assert target.stat().st_size < 0.6 * source.stat().st_size
    sessions = [onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in (source, target)]
    for kind in ("get_inputs", "get_outputs"):
        ours, theirs = ([(v.name, v.type, v.shape) for v in getattr(s, kind)()] for s in sessions)
        assert ours == theirs
    ids = np.random.default_rng(1).integers(0, 60, (5, 7))
    expected, got = (session.run(None, {"ids": ids})[0] for session in sessions)
    assert not np.array_equal(expected, got)
    off = 0.2 if name.startswith("int4") else 0.05  # the steps of 4 bits are 16 times as wide as those of 8
    np.testing.assert_allclose(got, expected, atol=off * np.abs(expected).max())
    assert not overflow.check(target).possible
