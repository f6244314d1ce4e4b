import dataclasses
import json

import pytest

from tledge import artifacts
from tledge.artifacts import (
    BenchResult,
    Candidate,
    Comparison,
    Contender,
    CurvePoint,
    EndToEnd,
    Exactness,
    Fastest,
    Finding,
    Footprint,
    Gain,
    Generation,
    Graph,
    LabelCurve,
    Latency,
    LatencyRatio,
    Machine,
    MetricDrop,
    OnMachine,
    OperatorTime,
    Overflow,
    ParityCase,
    Processor,
    Record,
    ServerLoad,
    SideBySide,
    StudentCandidate,
    TensorSpec,
    Throughput,
    Variant,
    Verdict,
)

GRAPH = Graph(
    "model.onnx", 123, 20, 10,
    (TensorSpec("input_ids", "int64", ("batch", "sequence")),),
    (TensorSpec("logits", "float32", ("batch", 3)),),
)  # fmt: skip
RATIO = LatencyRatio("fp32", 0.5, 0.4, 0.6, 100)
LATENCY = Latency("int8", 1, 32, 2, 64, 1.5, {"p50": 1.4}, {"p99": 662}, RATIO, 1.3, 1.5)
MACHINE = Machine("a cpu", "x86_64", ("avx2",), 4, 1.5, 8000.0, "Linux", "3.11", "1.31", ("CPU",), None, {"numpy": "2"})
OPERATOR = OperatorTime("MatMul", "CPUExecutionProvider", 7, 0.9, 0.75)
FOOTPRINT = Footprint(
    "int8", 1.5, 10.0, 2.0, 90.0, 60.0, {"CPUExecutionProvider": 7}, {"CPUExecutionProvider": 1.0}, (OPERATOR,), 2, 1.9
)  # fmt: skip
END_TO_END = EndToEnd("int8", 1, 100, 0.2, 1.4, 0.1, {"p50": 1.7}, {"p99": 662})
THROUGHPUT = Throughput("int8", 8, None, 2, 100, 800.0, 790.0, 810.0)
LOAD = ServerLoad("int8", 1, 32, 1, 50.0, 49.0, 0.07, 1324, "p99", 10.0, 1.0, None, {"p50": 1.5}, {"p99.9": 6636})
COMPARISON = Comparison("new", "old", 1, 32, 1, "cpu", RATIO, RATIO, 0.02, "faster", "clearly", 1.0, 2.0, True)
GENERATION = Generation(
    "int8", 1, 16, 32, 2, 200, {"p50": 3.0}, {"p50": 1.5}, 600.0, 580.0, 620.0, {"p99": 662}, {"p99": 662}, RATIO
)
BENCH = BenchResult(
    MACHINE, (LATENCY, LATENCY), (FOOTPRINT,), ("quiet",), "2026-11-21", "a bundle", "cpu",
    (END_TO_END,), (THROUGHPUT,), (LOAD,), (GENERATION,), (COMPARISON,), True,
)  # fmt: skip
FINDING = Finding("p95_ms", "INCONCLUSIVE", "another machine", 5.0, 4.0, None, None, "ms", "int8", "cpu", 1, 32, 1)
OVERFLOW = Overflow(37, 5000, 7, ("layer",), ("another",), 3, 1)
EXACTNESS = Exactness(656, 12, 3, 0.5)
PROCESSOR = Processor("a cpu", "x86_64", ("avx2",), "x86_64 AVX2 without VNNI")
ON_MACHINE = OnMachine("ssh://board", BENCH, None, "gone", 14)
FASTEST = Fastest("batch 1", {"a": ("fp32", "int8")}, "fp32 and int8 are not told apart")
DROP = MetricDrop("fp32", 0.9, 0.01, -0.002, None, 0.2, "exact McNemar test", 500)
POINT = CurvePoint(8, (1, 2), (0.7, 0.8), 0.75, 0.1, 1.0, 0.05, -0.1, 0.2)
EXAMPLES = [
    DROP,
    POINT,
    LabelCurve("news", "here", "probe", "accuracy", False, 4, 100, 60, (POINT,), "ab12"),
    OVERFLOW,
    EXACTNESS,
    PROCESSOR,
    ON_MACHINE,
    FASTEST,
    SideBySide((ON_MACHINE,), (FASTEST,), "ACCEPT"),
    Variant("int8", "int8_dynamic", GRAPH, against_fp32=RATIO, overflow=OVERFLOW, exact=EXACTNESS, processor=PROCESSOR),
    GENERATION,
    Contender(
        "student alone", 10, (1, 2), ({"loss": 2.0}, {"loss": 2.2}), {"loss": 2.1}, {"loss": 1.9}, {"loss": 2.3}, 9.0
    ),
    Gain("loss", -0.1, -0.2, -0.01, True),
    StudentCandidate("layers 0, 2", 10, 1.5, 0.8, "int8_dynamic", "batch 1", True, True, True, 0.9, "fits"),
    GRAPH,
    RATIO,
    LATENCY,
    MACHINE,
    ParityCase("alone", 1, 2, False, 1e-6, 1e-4, True, True),
    Variant("int8", "int8_dynamic", GRAPH, {"accuracy": 0.9}, {"accuracy": 0.8}, 0.99, 1.5, "b1", RATIO, True, "!"),
    Variant("fp32", "fp32", GRAPH),
    Candidate("int8_static", {"types": "u8s8", "n_worst": 4}, {"accuracy": 0.9}, RATIO, "fast", True),
    OPERATOR,
    FOOTPRINT,
    Footprint("fp32", 1.5, 10.0, 2.0, 90.0, 60.0),
    END_TO_END,
    THROUGHPUT,
    LOAD,
    COMPARISON,
    BENCH,
    FINDING,
    Verdict("INCONCLUSIVE", (FINDING,), "a bundle", "0123456789ab", "", "2026-11-21", BENCH),
    Verdict("ACCEPT", ()),
    Record("2026-11-21", "tiny", "int8", 1, 32, 1, "cpu", "0123", 1.4, 1.3, 1.5, {"p50": 1.4}, fingerprint="ab"),
    BenchResult(MACHINE, (LATENCY, LATENCY), (), ("quiet",), "2026-11-21"),
]


@pytest.mark.parametrize("artifact", EXAMPLES, ids=lambda a: type(a).__name__)
def test_comes_back_from_json_as_it_was(artifact, tmp_path):
    artifacts.write_json(tmp_path / "a.json", artifact)
    again = artifacts.from_dict(type(artifact), artifacts.read_json(tmp_path / "a.json"))
    assert again == artifact
    assert artifacts.from_dict(type(artifact), artifacts.to_dict(artifact)) == artifact


def test_tuples_and_nested_artifacts_have_their_types_again():
    quantized = next(each for each in EXAMPLES if isinstance(each, Variant))
    variant = artifacts.from_dict(Variant, json.loads(json.dumps(artifacts.to_dict(quantized))))
    assert isinstance(variant.graph.inputs[0], TensorSpec)
    assert variant.graph.inputs[0].shape == ("batch", "sequence")
    assert isinstance(variant.against_fp32, LatencyRatio)


def test_every_artifact_is_tried():
    classes = {c for c in vars(artifacts).values() if dataclasses.is_dataclass(c)}
    assert classes == {type(example) for example in EXAMPLES} | {TensorSpec}


def test_unknown_keys_of_a_newer_writer_are_ignored():
    data = artifacts.to_dict(RATIO) | {"invented_later": 1}
    assert artifacts.from_dict(LatencyRatio, data) == RATIO


def test_a_missing_key_is_an_error():
    data = artifacts.to_dict(RATIO)
    del data["ratio"]
    with pytest.raises(TypeError, match="ratio"):
        artifacts.from_dict(LatencyRatio, data)


def test_artifacts_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RATIO.ratio = 1.0


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    artifacts.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        artifacts.write_json(path, {"a": object()})
    assert artifacts.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_text_is_stored_as_utf_8(tmp_path):
    artifacts.write_json(tmp_path / "a.json", {"label": "größer"})
    assert "größer" in (tmp_path / "a.json").read_text(encoding="utf-8")
