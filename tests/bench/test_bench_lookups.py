"""Which inputs look rows up, and in tables of how many rows."""

import numpy as np
import onnx
import pytest
from foreign import save, table
from onnx import TensorProto, helper, numpy_helper

from tledge.bench.lookups import table_rows

IDS = [("ids", TensorProto.INT32, ["batch", "seq"])]
OUT = [("y", 1, None)]


@pytest.mark.parametrize(
    "between",
    [
        [],
        [helper.make_node("Cast", ["ids"], ["i"], to=7)],
        [helper.make_node("Identity", ["ids"], ["h"]), helper.make_node("Flatten", ["h"], ["i"])],
    ],
    ids=["as it is", "cast", "in another shape"],
)
def test_the_smallest_table_counts(between, tmp_path):
    indices = "i" if between else "ids"
    nodes = [
        *between,
        ("Gather", ["large", "ids"], ["a"]),
        ("Gather", ["small", indices], ["b"]),
        ("Neg", ["b"], ["y"]),
    ]
    path = save(tmp_path / "g.onnx", nodes, IDS, OUT, {"large": table(9), "small": table(3)})
    assert table_rows(path) == {"ids": 3}


def test_what_is_computed_of_an_input_and_tables_that_are_not_stored_do_not_count(tmp_path):
    nodes = [
        ("Add", ["ids", "one"], ["next"]),
        ("Gather", ["stored", "next"], ["a"]),
        ("Gather", ["given", "ids"], ["y"]),
    ]
    taken = [*IDS, ("given", 1, [4, 8])]
    path = save(tmp_path / "g.onnx", nodes, taken, OUT, {"stored": table(3), "one": np.ones(1, np.int32)})
    assert table_rows(path) == {}


def test_tables_of_other_axes_constants_and_quantized_ones(tmp_path):
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(table(5))),
        ("Gather", ["c", "p"], ["a"]),
        helper.make_node("Gather", ["wide", "q"], ["b"], axis=-1),
        ("DequantizeLinear", ["codes", "scale"], ["d"]),
        ("Gather", ["d", "r"], ["y"]),
    ]
    taken = [(name, TensorProto.INT64, ["n"]) for name in "pqr"]
    stored = {"wide": table(3), "codes": np.zeros((7, 8), np.int8), "scale": np.float32(1)}
    assert table_rows(save(tmp_path / "g.onnx", nodes, taken, OUT, stored)) == {"p": 5, "q": 8, "r": 7}


def test_the_fused_embedding_of_optimized_encoders(tmp_path):
    names = ("words", "places", "kinds", "gamma", "beta")
    node = helper.make_node("EmbedLayerNormalization", ["ids", "segments", *names], ["y", "m"], domain="com.microsoft")
    stored = {"words": table(50), "places": table(16), "kinds": table(1), "gamma": table(1)[0], "beta": table(1)[0]}
    taken = [(name, TensorProto.INT32, ["batch", "seq"]) for name in ("ids", "segments")]
    assert table_rows(save(tmp_path / "g.onnx", [node], taken, OUT, stored)) == {"ids": 50, "segments": 1}


def test_a_table_in_a_branch(tmp_path):
    [value] = [helper.make_tensor_value_info("z", 1, None)]
    branch = helper.make_graph([helper.make_node("Gather", ["t", "ids"], ["z"])], "branch", [], [value])
    branch.initializer.append(numpy_helper.from_array(table(4), "t"))
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    path = save(tmp_path / "g.onnx", [node], [*IDS, ("c", TensorProto.BOOL, [])], OUT)
    onnx.load(path)
    assert table_rows(path) == {"ids": 4}
