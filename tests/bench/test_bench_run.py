import dataclasses

import numpy as np
import pytest

from tledge import bench
from tledge.artifacts import BenchResult, Footprint, Latency, LatencyRatio, Machine, from_dict, to_dict
from tledge.bench import table
from tledge.bench.notes import notes
from tledge.errors import BundleError, RecipeError

MACHINE = Machine(
    cpu="Imaginary",
    architecture="x86_64",
    cpu_flags=(),
    cores=4,
    quota_cores=None,
    memory_mb=8000.0,
    system="Linux",
    python="3.11",
    onnxruntime="1.31.1",
    providers=("CPUExecutionProvider",),
    load_average=0.2,
)
FP32 = Latency("fp32", 1, 32, 1, 100, 2.1, {"p50": 2.0, "p90": 2.5}, {"p95": 130, "p99": 662})
INT8 = dataclasses.replace(
    FP32,
    candidate="int8",
    percentiles_ms={"p50": 0.7, "p90": 12.34},
    against=LatencyRatio("fp32", 0.351, 0.34, 0.36, 100),
)


def make_feeds(batch, sequence):
    return {"x": np.ones((batch * sequence, 64), dtype=np.float32)}


def test_run_measures_every_candidate_at_every_setting(tiny_graph):
    seen = []

    def extra(threads):
        seen.append(threads)
        return lambda feeds: {"y": feeds["x"]}

    result = bench.run(
        {"fp32": tiny_graph, "int8": tiny_graph},
        make_feeds,
        reference="fp32",
        batches=[1, 2],
        lengths=[1, 4],
        threads=[1, 2],
        percentile=90,
        extra={"copy": extra},
        repeats=1,
    )
    assert seen == [1, 2]
    assert [(r.threads, r.batch, r.sequence, r.candidate) for r in result.latencies] == [
        (t, b, s, c) for t in (1, 2) for b in (1, 2) for s in (1, 4) for c in ("fp32", "int8", "copy")
    ]
    assert {r.samples for r in result.latencies} == {100}
    assert all((r.against is None) == (r.candidate == "fp32") for r in result.latencies)
    assert [f.candidate for f in result.footprints] == ["fp32", "int8"]
    assert result.created.endswith("+00:00")
    assert from_dict(BenchResult, to_dict(result)) == result


def test_an_unknown_reference_is_refused_before_anything_is_measured(tiny_graph):
    with pytest.raises(RecipeError, match="'fp16' is not measured: candidates are fp32"):
        bench.run({"fp32": tiny_graph}, make_feeds, reference="fp16")


def test_a_missing_graph_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"gone\.onnx"):
        bench.run({"fp32": tmp_path / "gone.onnx"}, make_feeds, reference="fp32", repeats=1)


def test_nothing_to_note_on_a_quiet_machine_with_enough_samples():
    assert notes(MACHINE, [FP32, INT8], 90) == ()


def test_notes_name_threads_beyond_cores_or_quota():
    many = dataclasses.replace(FP32, threads=8)
    assert notes(MACHINE, [many], 90)[0].startswith("8 threads are more than the 4 cores available")
    limited = dataclasses.replace(MACHINE, quota_cores=1.5)
    two = dataclasses.replace(FP32, threads=2)
    assert notes(limited, [FP32, two], 90) == (
        "2 threads are more than the CPU quota of 1.5 cores: they wait for each other, so use fewer",
    )


@pytest.mark.parametrize(("load", "noted"), [(None, 0), (1.0, 0), (3.0, 0), (3.1, 1)])
def test_notes_name_other_work(load, noted):
    busy = dataclasses.replace(MACHINE, load_average=load)
    assert len(notes(busy, [FP32], 90)) == noted


def test_notes_name_the_asked_percentile_once_a_setting():
    found = notes(MACHINE, [FP32, INT8, dataclasses.replace(FP32, sequence=128)], 99)
    assert found == tuple(
        f"p99 is not given at batch 1, length {length}, 1 thread: "
        "100 of 662 samples fitted into the time limit; raise duration_s"
        for length in (32, 128)
    )


def test_table():
    slow = dataclasses.replace(FP32, sequence=512, samples=9, percentiles_ms={"p50": 2.0}, missing={"p90": 64})
    header, rows = table.rows(BenchResult(MACHINE, (FP32, INT8, slow), ()))
    assert header == (
        "candidate",
        "batch",
        "length",
        "threads",
        "samples",
        "p50 ms",
        "p90 ms",
        "ratio to fp32",
    )
    assert rows == [
        ("fp32", "1", "32", "1", "100", "2.00", "2.50", "-"),
        ("int8", "1", "32", "1", "100", "0.700", "12.3", "0.35 (0.34 to 0.36)"),
        ("fp32", "1", "512", "1", "9", "2.00", "needs 64", "-"),
    ]


def test_footprint_lines():
    known = Footprint("int8", 23.34, 45.67, 3.2, 120.0, 60.0, {"CPUExecutionProvider": 12})
    unknown = dataclasses.replace(known, candidate="fp16", size_mb=0.016, nodes_by_provider={})
    assert table.lines(BenchResult(MACHINE, (), (known, unknown))) == [
        "int8: 23.3 MB, loads in 45.7 ms, first run 3.20 ms, peak memory 120.0 MB (60.0 before loading), "
        "12 nodes on CPU",
        "fp16: 0.02 MB, loads in 45.7 ms, first run 3.20 ms, peak memory 120.0 MB (60.0 before loading), "
        "placement of nodes unknown",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.123"), (0.9999, "1.00"), (4.567, "4.57"), (99.96, "100"), (1234.4, "1234")],
)
def test_milliseconds(value, text):
    assert table.milliseconds(value) == text


def test_images_have_no_length(tiny_graph):
    result = bench.run(
        {"fp32": tiny_graph},
        lambda batch, sequence: {"x": np.ones((batch, 64), dtype=np.float32)} if sequence is None else {},
        reference="fp32",
        batches=[1, 2],
        lengths=[None],
        repeats=0,
    )
    assert [(row.batch, row.sequence) for row in result.latencies] == [(1, None), (2, None)]
    assert from_dict(BenchResult, to_dict(result)) == result
    header, rows = table.rows(result)
    assert header[:4] == ("candidate", "batch", "threads", "samples")
    assert [row[:4] for row in rows] == [("fp32", "1", "1", "100"), ("fp32", "2", "1", "100")]
    assert bench.setting(8, None, 2) == "batch 8, 2 threads"
    short = [dataclasses.replace(row, missing={"p99": 662}) for row in result.latencies]
    assert notes(MACHINE, short, 99)[0].startswith("p99 is not given at batch 1, 1 thread: 100 of 662")
