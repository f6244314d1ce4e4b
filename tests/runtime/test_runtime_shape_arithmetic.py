"""What a strict provider may leave to the CPU: reckoning with shapes, and no work on rows."""

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tledge.errors import InputError
from tledge.quantize.schemes import int8_dynamic
from tledge.runtime import open_session, session
from tledge.runtime.assignment import Assigned, assigned_nodes
from tledge.runtime.session import CPU, available_providers, left_to_the_cpu

AZURE = "AzureExecutionProvider"

node = helper.make_node
VIEW = (
    node("Shape", ["x"], ["batch"], "batch", start=0, end=1),
    node("Squeeze", ["batch"], ["rows"], "rows"),
    node("Concat", ["batch", "minus one"], ["target"], "target", axis=0),
    node("Reshape", ["x", "target"], ["y"], "view"),
)
"""Rows made flat, as an exporter writes it."""


def write(path, *nodes, x=("batch", 2, 3), y="y", **constants):
    """A graph from `x` to `y`; where `x` is `None`, it has any number of dimensions."""
    values = {"minus one": np.array([-1]), "one": np.array(1), "zero": np.array(0), **constants}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.save(model, path)
    return path


@pytest.fixture
def placed(monkeypatch):
    """`placed("view", ...)`: a stand-in for a GPU, which takes every node but those of these names."""
    if "azure" not in available_providers():
        pytest.skip("needs a provider beside the CPU; Azure's runs no node of ours")

    def place(*names):
        def nodes(opened):
            return [
                Assigned(CPU if each.name in names else AZURE, each.operator, each.name)
                for each in assigned_nodes(opened)
            ]

        monkeypatch.setattr(session, "assigned_nodes", nodes)

    return place


def left(path):
    shapes, rows = left_to_the_cpu(open_session(path, provider="azure", record=True), path)
    return dict(shapes), dict(rows)


def test_reckoning_with_shapes_may_stay_on_the_cpu(tmp_path, placed):
    path = write(tmp_path / "g.onnx", *VIEW)
    placed("batch", "target")
    assert left(path) == ({"Shape": 1, "Concat": 1}, {})
    opened = open_session(path, provider="azure", strict=True)
    assert opened.get_providers()[0] == AZURE
    assert opened.run(["y"], {"x": np.zeros((4, 2, 3), np.float32)})[0].shape == (4, 6)


def test_work_on_rows_may_not(tmp_path, placed):
    path = write(tmp_path / "g.onnx", *VIEW)
    placed("target", "view")
    assert left(path) == ({"Concat": 1}, {"Reshape": 1})
    with pytest.raises(InputError, match=r"'azure' cannot run 1 of 4 nodes of .* \(Reshape 1, beside 1 of shape"):
        open_session(path, provider="azure", strict=True)


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([node("Squeeze", ["x"], ["y"], "left")], "reads rows"),
        ([node("Gather", ["x", "zero"], ["s"], "left", axis=2), node("Relu", ["s"], ["y"])], "reads rows"),
        (
            [*VIEW[:1], node("Gather", ["x", "batch"], ["s"], "left"), node("Relu", ["s"], ["y"])],
            "reads rows and shapes",
        ),
        (
            [
                *(*VIEW[:2], node("Range", ["zero", "rows", "one"], ["s"], "left")),
                *(node("Cast", ["s"], ["f"], to=1), node("Mul", ["f", "f"], ["y"])),
            ],
            "as long as there are rows",
        ),
        (
            [
                *(*VIEW[:2], node("Range", ["zero", "rows", "one"], ["s"], "range")),
                *(node("ReduceMax", ["s"], ["m"], "left"), node("Cast", ["m"], ["f"], to=1)),
                node("Add", ["x", "f"], ["y"]),
            ],
            "reads what is as long as there are rows",
        ),
        (
            [
                *(*VIEW[:1], node("Tile", ["table", "batch"], ["s"], "left")),
                *(node("ReduceSum", ["s"], ["m"]), node("Add", ["x", "m"], ["y"])),
            ],
            "large",
        ),
        (
            [
                node("Shape", ["x"], ["all"]),
                node("ConstantOfShape", ["all"], ["s"], "left"),
                node("Add", ["x", "s"], ["y"]),
            ],
            "as large as the rows",
        ),
        (
            [
                *(node("NonZero", ["x"], ["n"]), node("Shape", ["n"], ["s"])),
                *(node("ConstantOfShape", ["s"], ["e"], "left"), node("Relu", ["e"], ["y"])),
            ],
            "size known in no run before",
        ),
    ],
)
def test_what_is_no_shape_arithmetic(tmp_path, placed, nodes, why):
    path = write(tmp_path / "g.onnx", *nodes, table=np.ones(1000, np.float32))
    placed("left")
    shapes, rows = left(path)
    assert not shapes, why
    assert sum(rows.values()) == 1


def test_a_tensor_of_unknown_rank_is_not_taken_for_a_number(tmp_path, placed):
    """onnxruntime's Python gives the shape `[]` for both."""
    nodes = [
        node("Shape", ["x"], ["all"], "all"),
        node("Expand", ["minus one", "all"], ["s"], "left"),
        node("Cast", ["s"], ["f"], to=1),
        node("Mul", ["f", "f"], ["y"]),
    ]
    path = write(tmp_path / "g.onnx", *nodes, x=None)
    placed("left")
    assert left(path) == ({}, {"Expand": 1})
    placed("all")
    assert left(path) == ({}, {"Shape": 1}), "of how many numbers nobody knows"


def test_nodes_without_names_all_have_to(tmp_path, placed):
    shape, _, target, view = VIEW
    unnamed = [onnx.NodeProto.FromString(each.SerializeToString()) for each in (shape, target)]
    for each in unnamed:
        each.name = ""
    placed("")
    path = write(tmp_path / "g.onnx", *unnamed, view)
    assert left(path) == ({"Shape": 1, "Concat": 1}, {})
    rows = [node("Concat", ["y", "y"], ["z"], axis=0), node("Concat", ["z", "z"], ["w"], "last", axis=0)]
    path = write(tmp_path / "more.onnx", *unnamed, view, *rows, y="w")
    assert left(path) == ({"Shape": 1}, {"Concat": 2})


def test_nodes_of_branches_are_not_looked_into(tmp_path, placed):
    outputs = [helper.make_tensor_value_info("t", TensorProto.INT64, None)]
    branch = helper.make_graph([node("Concat", ["batch", "minus one"], ["t"], "inside", axis=0)], "b", [], outputs)
    nodes = [
        *VIEW[:2],
        node("Equal", ["rows", "one"], ["single"], "equal"),
        node("If", ["single"], ["target"], "if", then_branch=branch, else_branch=branch),
        VIEW[3],
    ]
    path = write(tmp_path / "g.onnx", *nodes)
    placed("rows", "equal", "if", "inside")
    shapes, rows = left(path)
    assert shapes == {"Squeeze": 1, "Equal": 1}
    assert rows == {"If": 1, "Concat": 2}


def test_a_graph_with_weights_in_a_file_of_their_own(tmp_path, placed):
    rows = [node("Add", ["x", "weights"], ["s"]), node("Reshape", ["s", "target"], ["y"])]
    path = write(tmp_path / "g.onnx", *VIEW[:3], *rows, weights=np.ones((2, 3), np.float32))
    onnx.save(onnx.load(path), path, save_as_external_data=True, size_threshold=0, location="weights.bin")
    placed("batch", "target")
    assert left(path) == ({"Shape": 1, "Concat": 1}, {})


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2"])
def test_an_exported_graph_of_texts_is_taken_as_a_gpu_places_it(family, exported, placed):
    """CUDA takes `Shape` and `Slice`, which reads its bounds from the CPU; what else reads shapes alone stays there."""
    path = exported(family).path
    graph = onnx.load(path).graph
    shapes = {each.output[0] for each in graph.node if each.op_type == "Shape"}
    given = shapes | {each.name for each in graph.initializer}
    reads_shapes = [each for each in graph.node if set(each.input) <= given and set(each.input) & shapes]
    reckoning = [each for each in reads_shapes if each.op_type != "Slice"]
    assert {"Squeeze", "Concat"} <= {each.op_type for each in reckoning}
    placed(*(each.name for each in reckoning))
    assert left(path) == (Counter(each.op_type for each in reckoning), {})
    open_session(path, provider="azure", strict=True)
    gather = next(each for each in graph.node if each.op_type == "Gather")
    placed(gather.name, *(each.name for each in reckoning))
    with pytest.raises(InputError, match=r"\(Gather 1, beside"):
        open_session(path, provider="azure", strict=True)


def test_nothing_is_said_of_the_cpu_itself(tmp_path):
    path = write(tmp_path / "g.onnx", *VIEW)
    assert left_to_the_cpu(open_session(path, record=True), path) == ({}, {})


@pytest.mark.gpu
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_cuda_takes_an_exported_graph_of_texts_and_refuses_it_in_int8(family, exported, tmp_path):
    path = exported(family).path
    opened = open_session(path, provider="cuda", strict=True)
    shapes, rows = left_to_the_cpu(opened, path)
    assert set(shapes) <= {"Shape", "Squeeze", "Concat"}
    assert shapes
    assert not rows
    int8_dynamic.apply(path, tmp_path / "int8.onnx", overflow_fix="pairs")
    with pytest.raises(InputError, match=r"'cuda' cannot run .*DynamicQuantizeLinear"):
        open_session(tmp_path / "int8.onnx", provider="cuda", strict=True)
