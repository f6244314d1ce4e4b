"""What can be timed: variants of bundles, and ONNX files of others with what their inputs are made up of."""

import decoder_graph
import language_bundle
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tledge.bench import targets
from tledge.errors import BundleError, InputError
from tledge.runtime import open_session, session_run


def save(path, inputs):
    """A graph that passes its inputs on."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name, _, _ in inputs]
    infos = [helper.make_tensor_value_info(*each) for each in inputs]
    outputs = [helper.make_tensor_value_info(f"{name}_out", dtype, shape) for name, dtype, shape in inputs]
    graph = helper.make_graph(nodes, "identity", infos, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_the_chosen_variant_unless_another_is_asked_for(tiny_bundle):
    assert targets.resolve(tiny_bundle).name == "int8"
    assert targets.resolve(tiny_bundle, "fp32").graph.name == "model.onnx"
    assert [each.name for each in targets.variants(tiny_bundle)] == ["fp32", "int8"]
    assert [each.name for each in targets.variants(tiny_bundle, ["int8", "int8"])] == ["int8"]


def test_a_run_folder_stands_for_its_bundle(tiny, tmp_path):
    tiny.write(tmp_path / "run" / "bundle")
    assert targets.resolve(tmp_path / "run").manifest.name == "tiny"


def test_lengths_of_a_bundle(tiny_bundle):
    target = targets.resolve(tiny_bundle)
    assert (target.length(), target.length(8)) == (16, 8)
    with pytest.raises(InputError, match="takes at most 16 tokens, got 17"):
        target.length(17)


@pytest.mark.parametrize(
    ("path", "variant", "error", "message"),
    [
        ("bundle", "int9", InputError, "'int9' is not in .*known are fp32, int8; did you mean 'int8'?"),
        ("nothing", None, BundleError, "there is no .*nothing"),
        ("nothing.onnx", None, BundleError, "there is no .*nothing.onnx"),
        ("plain.onnx", "int8", InputError, "one graph without variants"),
    ],
)
def test_what_is_not_there_is_named(path, variant, error, message, tiny_bundle, tmp_path):
    save(tmp_path / "plain.onnx", [("x", TensorProto.FLOAT, ["batch", 4])])
    with pytest.raises(error, match=message):
        targets.resolve(tmp_path / path, variant)


def test_inputs_of_a_plain_graph_are_made_up_from_their_types_and_dimensions(tmp_path):
    path = save(
        tmp_path / "text.onnx",
        [
            ("ids", TensorProto.INT64, ["batch_size", "sequence_length"]),
            ("mask", TensorProto.BOOL, ["batch_size", "sequence_length"]),
            ("half", TensorProto.FLOAT16, ["batch_size", 3]),
        ],
    )
    target = targets.resolve(path)
    feeds = target.feeds(2, 5)
    assert {name: (array.shape, array.dtype.name) for name, array in feeds.items()} == {
        "ids": ((2, 5), "int64"), "mask": ((2, 5), "bool"), "half": ((2, 3), "float16"),
    }  # fmt: skip
    assert feeds["mask"].all()
    assert np.array_equal(feeds["half"], target.feeds(2, 5)["half"])
    assert target.length() == 32


def test_a_plain_graph_without_a_length(tmp_path):
    target = targets.resolve(save(tmp_path / "image.onnx", [("x", TensorProto.FLOAT, ["N", 3, 8, 8])]))
    assert target.length() is None
    assert target.feeds(4, None)["x"].shape == (4, 3, 8, 8)


def test_a_dimension_that_is_not_known_is_asked_for(tmp_path):
    path = save(tmp_path / "image.onnx", [("x", TensorProto.FLOAT, ["batch", 3, "height", "width"])])
    with pytest.raises(InputError, match="dimension 'height' of the input 'x' is not known; give it: --dim height=N"):
        targets.resolve(path)
    target = targets.resolve(path, dims={"height": 6, "width": 7})
    assert target.feeds(1, None)["x"].shape == (1, 3, 6, 7)
    with pytest.raises(
        InputError, match=r"'heigth' is no dimension of .*its named dimensions are batch, height, width"
    ):
        targets.resolve(path, dims={"heigth": 6})


def test_dimensions_of_a_bundle_are_its_own(tiny_bundle):
    with pytest.raises(InputError, match="is a bundle, which knows its inputs"):
        targets.resolve(tiny_bundle, dims={"batch": 2})


def test_text_inputs_cannot_be_made_up(tmp_path):
    path = save(tmp_path / "strings.onnx", [("x", TensorProto.STRING, ["batch"])])
    with pytest.raises(InputError, match=r"'x' is a tensor\(string\), which cannot be made up"):
        targets.resolve(path)


def test_a_run_of_a_language_model_is_one_token_after_a_past():
    target = targets.resolve(language_bundle.shared(), "fp32")
    assert (target.decoding, target.length(), target.length(63)) == (True, 32, 63)
    feeds = target.feeds(2, 10)
    assert {name: array.shape for name, array in feeds.items() if "." not in name} == {
        "input_ids": (2, 1), "attention_mask": (2, 11), "position_ids": (2, 1)
    }  # fmt: skip
    assert feeds["past_key_values.1.value"].shape == (2, 2, 10, 16)
    logits = session_run(open_session(target.graph, threads=1))(feeds)["logits"]
    assert logits.shape == (2, 1, 320)
    with pytest.raises(InputError, match="takes at most 63 tokens before the one that is timed, got 64"):
        target.length(64)


def test_a_decoder_that_is_no_bundle_is_known_by_its_past():
    made = decoder_graph.decoder("llama")
    target = targets.resolve(made.path)
    assert (target.decoding, target.manifest) == (True, None)
    assert target.feeds(3, 7)["past_key_values.0.key"].shape == (3, 1, 7, 16)
