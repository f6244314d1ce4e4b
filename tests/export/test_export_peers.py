"""What others' tools make of an exported graph, as it is."""

import shutil

import decoder_graph
import families
import numpy as np
import onnx
import pytest
import tiny_images
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

from tledge import export
from tledge.past import feeds
from tledge.runtime import open_session, session_run
from tledge.runtime.decoder import tensor_specs

TOKENS = np.arange(12).reshape(2, 6)


@pytest.fixture(params=["bert", "image", "gpt2", "llama"])
def graph(request, exported, tmp_path):
    """A copy of a graph of each kind, with inputs."""
    path = tmp_path / "graph" / "model.onnx"
    path.parent.mkdir()
    if request.param == "bert":
        shutil.copyfile(exported("bert").path, path)
        return path, exported("bert").encoder.encode(families.TEXTS)
    if request.param == "image":
        sample = tiny_images.ENCODER.dummy(2)
        export.export(tiny_images.network(), sample, path, opset=20, external_data=False)
        return path, sample
    shutil.copyfile(decoder_graph.decoder(request.param).path, path)
    specs = tensor_specs(open_session(path, threads=1).get_inputs())
    return path, feeds(specs, TOKENS, np.ones_like(TOKENS))


def logits(path, tensors):
    return session_run(open_session(path, threads=1))(tensors)["logits"]


def test_nothing_is_said_of_what_is_between_inputs_and_outputs(graph):
    model = onnx.load(graph[0])
    assert not model.graph.value_info
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


@pytest.mark.parametrize("prepared", [False, True])
def test_onnxruntime_prepares_and_quantizes_it(prepared, graph, tmp_path):
    path, tensors = graph
    expected = logits(path, tensors)
    if prepared:
        quant_pre_process(path, tmp_path / "prepared.onnx")
        path = tmp_path / "prepared.onnx"
        np.testing.assert_allclose(logits(path, tensors), expected, atol=1e-3, rtol=1e-3)
    quantize_dynamic(path, tmp_path / "quantized.onnx")
    got = logits(tmp_path / "quantized.onnx", tensors)
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.95


def test_weights_in_a_file_of_their_own_are_prepared_and_quantized(exported, tmp_path):
    made = exported("bert")
    sample = made.encoder.dummy(2, 8)
    sample["attention_mask"][0, -3:] = 0
    export.export(made.model, sample, tmp_path / "model.onnx", opset=20, external_data=True)
    tensors = made.encoder.encode(families.TEXTS)
    quant_pre_process(tmp_path / "model.onnx", tmp_path / "prepared.onnx")
    quantize_dynamic(tmp_path / "model.onnx", tmp_path / "quantized.onnx")
    for name in ("prepared", "quantized"):
        got = logits(tmp_path / f"{name}.onnx", tensors)
        assert np.corrcoef(got.ravel(), logits(made.path, tensors).ravel())[0, 1] > 0.95
