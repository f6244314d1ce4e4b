"""Where nodes run: their counts and their times out of a profile."""

import json
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from tledge.artifacts import OperatorTime
from tledge.errors import BundleError
from tledge.footprint import placement, profile

CPU = "CPUExecutionProvider"


def node(name, start, duration, operator="Op", *, index=0, provider=CPU):
    facts = {"op_name": operator, "provider": provider, "node_index": str(index)}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": start, "dur": duration, "args": facts}


def execution(start, duration):
    return {"cat": "Session", "name": "SequentialExecutor::Execute", "ts": start, "dur": duration, "args": {}}


def run(start, duration):
    return {"cat": "Session", "name": "model_run", "ts": start, "dur": duration, "args": {}}


LOADED = {"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 5, "args": {}}
FENCE = {"cat": "Node", "name": "a_fence_before", "ts": 10, "dur": 3, "args": {"op_name": "Add"}}

LOOP = [
    node("a", 10, 4, "Add"),
    node("b", 22, 3, "MatMul"),
    execution(21, 5),
    node("b", 31, 5, "MatMul"),
    execution(30, 7),
    node("loop", 20, 20, "Loop", index=1),
    node("c", 41, 6, "Add", index=2),
    execution(9, 50),
    run(8, 52),
]


def test_a_loop_s_nodes_count_once_and_its_time_does_not_count_twice():
    (found,) = profile.parse([LOADED, FENCE, *LOOP])
    assert sum(part.time_us for part in found) == 4 + 20 + 6
    rows = {row.operator: (row.nodes, row.time_ms) for row in profile.operators([found])}
    assert rows == {"Add": (2, 0.010), "MatMul": (1, 0.008), "Loop": (1, 0.012)}


def test_a_subgraph_in_a_subgraph_and_a_name_that_comes_twice():
    events = [
        node("same", 13, 2, "MatMul"),
        execution(12, 4),
        node("if", 11, 8, "If"),
        execution(10, 10),
        node("loop", 9, 12, "Loop"),
        node("same", 22, 3, "MatMul"),
        execution(8, 20),
        run(7, 22),
    ]
    (found,) = profile.parse(events)
    assert sum(part.time_us for part in found) == 12 + 3
    rows = {row.operator: (row.nodes, row.time_ms) for row in profile.operators([found])}
    assert rows == {"MatMul": (2, 0.005), "If": (1, 0.006), "Loop": (1, 0.004)}


def test_times_are_medians_over_runs_and_the_slowest_comes_first():
    runs = [
        profile.parse([node("a", 1, a, "Add"), node("b", 50, b, "Mul"), execution(0, 99), run(0, 99)])[0]
        for a, b in ((1, 30), (2, 30), (40, 32))
    ]
    assert profile.operators(runs) == [
        OperatorTime("Mul", CPU, 1, 0.030, 30 / 32),
        OperatorTime("Add", CPU, 1, 0.002, 2 / 32),
    ]


def test_numbers_of_fused_parts_do_not_make_new_operators():
    parts = [node(f"p{i}", i * 10, 5, f"EP-subgraph_{i}", index=i, provider="X") for i in (1, 2)]
    (found,) = profile.parse([*parts, execution(1, 40), run(0, 41)])
    assert [(row.operator, row.nodes) for row in profile.operators([found])] == [("EP-subgraph", 2)]


@pytest.mark.parametrize(
    "text", ["", "[", '[{"cat": "Node"}]', "7", "[7]", '[{"cat": "Node", "name": "a_kernel_time"}]']
)
def test_a_profile_that_is_not_whole_is_an_error_in_one_line(tmp_path, text):
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(BundleError, match="the profile of the graph cannot be read") as error:
        profile.read(path)
    assert "\n" not in str(error.value)


def test_a_profile_that_was_not_written_is_an_error(tiny_graph, feeds, monkeypatch, tmp_path):
    with pytest.raises(BundleError, match=r"cannot be read: FileNotFoundError.*space"):
        profile.read(tmp_path / "none.json")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(BundleError, match=r"cannot be written: .*set TMPDIR"):
        placement.place(tiny_graph, feeds)


def test_a_profile_without_whole_runs_is_an_error(tiny_graph, feeds, monkeypatch):
    monkeypatch.setattr(profile, "read", lambda path: [()])
    with pytest.raises(BundleError, match="has 1 whole runs, expected 2 or more"):
        placement.place(tiny_graph, feeds, runs=2)


def test_a_profiled_graph_that_cannot_run_leaves_nothing_behind(tiny_graph, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with pytest.raises(BundleError, match="needs the input 'x'"):
        placement.place(tiny_graph, {"z": np.zeros(1)})
    assert not list((tmp_path / "temporary").iterdir())


def test_profiling_ends_with_its_time(feeds, monkeypatch):
    asked = []
    monkeypatch.setattr(placement, "SECONDS", -1)
    placement._repeat(asked.append, feeds, 50)
    assert len(asked) == 2  # the one that does not count, and one that does
    monkeypatch.setattr(placement, "SECONDS", 1e9)
    placement._repeat(asked.append, feeds, 5)
    assert len(asked) == 2 + 6


def test_where_a_graph_runs(tiny_graph, feeds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    found = placement.place(tiny_graph, {"x": np.ones((4096, 64), np.float32)}, runs=3)
    assert found.nodes_by_provider == {CPU: 2}
    assert found.time_share_by_provider == {CPU: pytest.approx(1)}
    assert sum(row.share for row in found.operators) == pytest.approx(1)
    assert all(row.time_ms > 0 and row.provider == CPU for row in found.operators[:1])
    assert not list((tmp_path / "temporary").iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "temporary"}


def test_a_real_loop(tmp_path):
    def value(name, kind=TensorProto.FLOAT, shape=("batch", 64)):
        return helper.make_tensor_value_info(name, kind, shape)

    constants = {"w": np.eye(64, dtype=np.float32), "n": np.array(5), "go": np.array(True)}
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["v", "w"], ["p"]),
            helper.make_node("Tanh", ["p"], ["q"]),
            helper.make_node("Identity", ["c"], ["d"]),
        ],
        "body",
        [value("i", TensorProto.INT64, ()), value("c", TensorProto.BOOL, ()), value("v")],
        [value("d", TensorProto.BOOL, ()), value("q")],
    )
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Loop", ["n", "go", "r"], ["y"], body=body)],
        "g",
        [value("x")],
        [value("y")],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "loop.onnx")
    found = placement.place(tmp_path / "loop.onnx", {"x": np.ones((512, 64), np.float32)}, runs=3)
    nodes = {row.operator: row.nodes for row in found.operators}
    assert {name: nodes[name] for name in ("Relu", "Loop", "MatMul", "Tanh")} == dict.fromkeys(
        ("Relu", "Loop", "MatMul", "Tanh"), 1
    )
    assert found.nodes_by_provider[CPU] >= 4
    assert found.time_share_by_provider == {CPU: pytest.approx(1)}


def test_nodes_are_unknown_unless_recorded(tiny_graph):
    session = ort.InferenceSession(str(tiny_graph), providers=[CPU])
    assert placement.nodes_by_provider(session) == {}


def test_times_of_a_provider_that_only_starts_the_work_are_unknown():
    rows = [OperatorTime("Gemm", "CUDAExecutionProvider", 3, 0.1, 0.5), OperatorTime("Add", CPU, 1, 0.1, 0.5)]
    nodes = {"CUDAExecutionProvider": 3, CPU: 1}
    assert placement._placement(nodes, rows) == placement.Placement(nodes)
    both = placement._placement({}, [rows[1], OperatorTime("Part", "OpenVINOExecutionProvider", 1, 0.3, 0.5)])
    assert both.time_share_by_provider == {"OpenVINOExecutionProvider": pytest.approx(0.75), CPU: pytest.approx(0.25)}
    assert both.nodes_by_provider == {}


def test_the_ten_slowest_are_kept_and_the_shares_are_of_all():
    rows = [OperatorTime(f"Op{n}", "X" if n else CPU, 1, 1.0, 1 / 16) for n in range(16)]
    found = placement._placement({}, rows)
    assert len(found.operators) == 10
    assert found.time_share_by_provider == {"X": 15 / 16, CPU: 1 / 16}


def test_profiles_are_plain_json(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(LOOP))
    assert profile.read(tmp_path / "p.json") == profile.parse(LOOP)


@pytest.mark.skipif("AzureExecutionProvider" not in ort.get_available_providers(), reason="needs a second provider")
def test_shape_arithmetic_on_the_cpu_is_told(tmp_path):
    nodes = [
        helper.make_node("Shape", ["x"], ["batch"], start=0, end=1),
        helper.make_node("Mul", ["batch", "four"], ["flat"]),
        helper.make_node("Reshape", ["x", "flat"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(*each) for each in (("x", TensorProto.FLOAT, ["b", 4]), ("y", 1, None)))
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(np.array([4]), "four")])
    path, feeds = tmp_path / "g.onnx", {"x": np.ones((3, 4), np.float32)}
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    found = placement.place(path, feeds, provider="azure", runs=1)
    assert found.nodes_by_provider == {CPU: 3}
    assert found.shape_arithmetic == {"Shape": 1, "Mul": 1}
    assert placement.place(path, feeds, runs=1).shape_arithmetic == {}
