"""What is read of ONNX files without the onnx package."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tledge import graph_file
from tledge.errors import BundleError

WEIGHTS = {
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "single": np.arange(6, dtype=np.float32),
    "byte": np.arange(4, dtype=np.int8).reshape(2, 2),
    "long": np.arange(3, dtype=np.int64),
    "scalar": np.float32(7),
    "none": np.zeros((0, 4), np.float32),
}


def save(path, **saving):
    """A graph whose weights are in itself, and one in a branch of an `If`."""
    inner = helper.make_graph(
        [], "branch", [], [helper.make_tensor_value_info("b", 1, [2])], [numpy_helper.from_array(np.ones(2, "f4"), "b")]
    )
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", 1, [2])],
        [numpy_helper.from_array(array, name) for name, array in WEIGHTS.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path, **saving)
    return path


@pytest.mark.parametrize("saving", [{}, {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0}])
def test_weights_are_read_from_wherever_they_are(saving, tmp_path):
    model = graph_file.load(save(tmp_path / "g.onnx", **saving))
    found = {tensor.name: graph_file.array(tensor, tmp_path) for tensor in model.graph.initializer}
    for name, array in WEIGHTS.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)
    assert [len(graph.initializer) for graph in graph_file.graphs(model)] == [len(WEIGHTS), 1, 1]


def test_files_of_weights_are_known_by_what_the_graph_says(tmp_path):
    alone = save(tmp_path / "alone.onnx")
    apart = save(tmp_path / "apart.onnx", save_as_external_data=True, location="any name.bin", size_threshold=0)
    (tmp_path / "alone.onnx.data").write_bytes(bytes(100))
    assert (graph_file.external_files(alone), graph_file.files_beside(apart)) == ((), ("any name.bin",))
    assert graph_file.size_bytes(alone) == alone.stat().st_size
    weights = tmp_path / "any name.bin"
    assert graph_file.size_bytes(apart) == apart.stat().st_size + weights.stat().st_size
    weights.unlink()
    assert graph_file.size_bytes(apart) == apart.stat().st_size
    with pytest.raises(BundleError, match=r"apart\.onnx has weights in 'any name\.bin', which is not in .*; put it"):
        graph_file.files_beside(apart)


def test_weights_outside_the_folder_are_not_read(tmp_path):
    path = save(tmp_path / "g.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = "../w.bin"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"'\.\./w\.bin', outside its folder"):
        graph_file.files_beside(path)
    with pytest.raises(BundleError, match="outside the graph's folder"):
        graph_file.array(graph_file.load(path).graph.initializer[0], tmp_path)


@pytest.mark.parametrize(
    ("content", "said"), [(b"no graph at all", "is no ONNX file, or damaged"), (None, "cannot be")]
)
def test_what_is_no_graph_is_one_line(content, said, tmp_path):
    path = tmp_path / "g.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=said):
        graph_file.load(path)
