"""Benchmarks of several machines side by side, with made-up figures."""

import dataclasses
import json

import pytest

from tledge.artifacts import (
    BenchResult,
    Comparison,
    Generation,
    Latency,
    LatencyRatio,
    Machine,
    OnMachine,
    ServerLoad,
    SideBySide,
    Throughput,
    from_dict,
    to_dict,
    to_json,
)
from tledge.errors import DataError
from tledge.report import machines
from tledge.report.results import read

XEON = Machine("Intel(R) Xeon(R) 9 CPU @ 2.00GHz", "x86_64", ("avx2", "avx512f", "avx512_vnni"), 2, None, 8e3, "Linux",
               "3.11", "1.31", (), None)  # fmt: skip
BOARD = Machine("Imaginary Board 5", "aarch64", ("asimd",), 4, None, 4e3, "Linux", "3.11", "1.31", (), None)
XEON_NAME, BOARD_NAME = "Intel Xeon 9, x86_64 AVX512-VNNI", "Imaginary Board 5, aarch64 without dot product"
DOWN = OnMachine("ssh://gone", error="gone: no such host; check the name", exit_code=14)


def latency(candidate, p50, ratio=None, *, batch=1, reference="fp32", width=0.02):
    against = None if ratio is None else LatencyRatio(reference, ratio, ratio - width, ratio + width, 130)
    return Latency(candidate, batch, 32, 1, 130, p50, {"p50": p50}, against=against)


def bench(machine, *latencies, **changes):
    return BenchResult(machine, latencies, (), **({"name": "made-up"} | changes))


ON_XEON = OnMachine("local", bench(XEON, latency("fp32", 8.6), latency("int8", 3.4, 0.39), latency("fp16", 9.0, 1.05)))
ON_BOARD = OnMachine(
    "ssh://board", bench(BOARD, latency("fp32", 80.0), latency("int8", 84.1, 1.05), latency("fp16", 41.0, 0.51))
)


def test_a_column_for_each_machine_and_a_row_for_each_variant():
    shown = machines.section(machines.side_by_side([ON_XEON, ON_BOARD]))
    at = "batch 1, length 32, 1 thread"
    assert shown.header == ("candidate", "setting", XEON_NAME, BOARD_NAME)
    assert shown.rows == (
        ("fp32", at, "8.60 ms", "80.0 ms"),
        ("int8", at, "3.40 ms, 0.39 (0.37 to 0.41)", "84.1 ms, 1.05 (1.03 to 1.07)"),
        ("fp16", at, "9.00 ms, 1.05 (1.03 to 1.07)", "41.0 ms, 0.51 (0.49 to 0.53)"),
    )
    assert shown.notes == (
        "Beside each figure is the ratio of its time to that of fp32.",
        f"The fastest is not the same on every machine: int8 is the fastest on {XEON_NAME}; "
        f"fp16 is the fastest on {BOARD_NAME}.",
    )


def test_a_machine_without_a_result_is_named_and_keeps_the_others():
    found = machines.side_by_side([ON_XEON, DOWN])
    shown = machines.section(found)
    assert shown.header[2:] == (XEON_NAME, "ssh://gone")
    assert [row[3] for row in shown.rows] == ["no result"] * 3
    assert shown.notes[-2:] == (
        f"int8 is the fastest on {XEON_NAME}.",
        "ssh://gone gave no result: gone: no such host; check the name",
    )
    text = machines.markdown(found)
    assert "ssh://gone gave no result" in text
    assert "| `int8` |" in text
    assert machines.section(machines.side_by_side([DOWN, DOWN])).rows == ()
    assert "Nothing was measured." in machines.markdown(machines.side_by_side([DOWN]))


def test_too_few_samples_for_a_median_name_no_fastest():
    few = [
        dataclasses.replace(row, samples=1, percentiles_ms={}, missing={"p50": 6}) for row in ON_BOARD.bench.latencies
    ]
    found = machines.side_by_side([ON_XEON, OnMachine("ssh://board", bench(BOARD, *few))])
    assert [row[3] for row in machines.section(found).rows] == ["needs 6 samples"] * 3
    assert [each.sentence for each in found.fastest] == [f"int8 is the fastest on {XEON_NAME}."]


def test_machines_of_one_kind_are_told_apart_by_their_addresses():
    again = dataclasses.replace(ON_BOARD, device="ssh://other")
    assert machines.names([ON_XEON, ON_BOARD, again]) == (
        XEON_NAME, f"{BOARD_NAME} (ssh://board)", f"{BOARD_NAME} (ssh://other)",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("times", "fastest"),
    [
        ({"fp32": (1, 1, 1), "int8": (0.4, 0.39, 0.41), "fp16": (0.5, 0.49, 0.51)}, ("int8",)),
        ({"fp32": (1, 1, 1), "int8": (0.4, 0.39, 0.41), "fp16": (0.42, 0.41, 0.43)}, ("int8", "fp16")),
        ({"fp32": (1, 1, 1), "int8": (0.99, 0.97, 1.01)}, ("int8", "fp32")),
        ({"fp32": (1, 1, 1), "int8": (1.2, 1.1, 1.3)}, ("fp32",)),
    ],
)
def test_the_fastest_are_those_whose_intervals_meet(times, fastest):
    assert machines.fastest_of(times) == fastest


@pytest.mark.parametrize(
    ("fastest", "sentence"),
    [
        ({"A": ("int8",)}, "int8 is the fastest on A."),
        ({"A": ("int8",), "B": ("int8",)}, "int8 is the fastest on both machines."),
        ({"A": ("int8",), "B": ("int8",), "C": ("int8",)}, "int8 is the fastest on all 3 machines."),
        (
            {"A": ("int8", "fp16"), "B": ("fp16", "int8")},
            "fp16 and int8 are not told apart as the fastest on both machines.",
        ),
        (
            {"A": ("int8",), "B": ("fp16",), "C": ("int8",)},
            "The fastest is not the same on every machine: int8 is the fastest on A and C; fp16 is the fastest on B.",
        ),
        (
            {"A": ("int8",), "B": ("fp16", "int8")},
            "int8 is the fastest on A; fp16 and int8 are not told apart as the fastest on B; "
            "so int8 may be the fastest on all of them.",
        ),
    ],
)
def test_the_sentence(fastest, sentence):
    assert machines.sentence(fastest) == sentence


def test_each_setting_has_a_sentence_of_its_own():
    def on(device, machine, small, large):
        rows = (latency("fp32", 8.0), latency("int8", 4.0, small), latency("fp32", 60.0, batch=8))
        return OnMachine(device, bench(machine, *rows, latency("int8", 66.0, large, batch=8)))

    found = machines.side_by_side([on("local", XEON, 0.5, 1.1), on("ssh://board", BOARD, 0.6, 0.9)])
    one, eight = (each.sentence for each in found.fastest)
    assert one == "batch 1, length 32, 1 thread: int8 is the fastest on both machines."
    assert eight.startswith("batch 8, length 32, 1 thread: The fastest is not the same on every machine: fp32 is")
    assert found.fastest[1].candidates == {XEON_NAME: ("fp32",), BOARD_NAME: ("int8",)}


def test_what_else_a_bench_measures_stands_side_by_side_too():
    ratio = LatencyRatio("fp32", 0.5, 0.48, 0.52, 60)
    flow = (
        Throughput("fp32", 8, 32, 1, 40, 400.0, 390.0, 410.0),
        Throughput("int8", 8, 32, 1, 40, 900.0, 880.0, 915.0),
    )
    more = {
        "throughput": flow,
        "generations": (Generation("int8", 1, 16, 32, 1, 9, {}, {}, 200.0, 198.0, 202.0, against=ratio),),
        "comparisons": (Comparison("int8", "old", 1, 32, 1, "cpu", ratio, ratio, 0.02, "faster", "", 1.0, 2.0),),
        "server": (ServerLoad("int8", 1, 32, 1, 50.0, 49.0, 0.2, 700, "p99", 20.0, 0.999, True, {}),),
    }  # fmt: skip
    found = machines.side_by_side([OnMachine("local", bench(XEON, **more)), DOWN])
    shown = machines.section(found)
    assert [row[2] for row in shown.rows] == [
        "200 tokens/s, 0.50 (0.48 to 0.52)",
        "faster, 0.50 (0.48 to 0.52)",
        "400 rows/s (390 to 410)",
        "900 rows/s (880 to 915)",
        "p99 in 20 ms met, 99.90 % within",
    ]
    assert [each.sentence for each in found.fastest] == [f"int8 is the fastest on {XEON_NAME}."]


def test_other_references_and_other_bundles_are_said():
    eager = bench(BOARD, latency("int8", 84.1, 0.3, reference="torch eager"), name="another")
    notes = machines.section(machines.side_by_side([ON_XEON, OnMachine("ssh://board", eager)])).notes
    assert notes[0] == (
        f"Beside each figure is the ratio of its time to that of fp32 on {XEON_NAME}; torch eager on {BOARD_NAME}."
    )
    assert notes[1] == "These are different bundles: made-up and another."


def test_it_survives_json():
    found = machines.side_by_side([ON_XEON, ON_BOARD, DOWN])
    assert from_dict(SideBySide, to_dict(found)) == found


def test_stored_results_are_read_in_their_order(tmp_path):
    one, several = tmp_path / "one.json", tmp_path / "several.json"
    one.write_text(to_json(ON_XEON.bench))
    several.write_text(to_json(machines.side_by_side([ON_BOARD, DOWN])))
    assert read([one, several]) == (OnMachine(str(one), bench=ON_XEON.bench), ON_BOARD, DOWN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is not JSON"),
        ("[1]", "is no result; expected what tledge bench"),
        ('{"a": 1}', "is no result; expected what tledge bench"),
        ('{"machine": {}, "latencies": []}', "is no whole result"),
        ('{"machines": [{"bench": 5}]}', "is no whole result"),
    ],
)
def test_what_is_no_result_is_named(text, message, tmp_path):
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read([path])
    assert str(path) in str(caught.value)


def test_benches_and_gates_do_not_mix(tmp_path):
    (tmp_path / "bench.json").write_text(to_json(ON_XEON.bench))
    (tmp_path / "gate.json").write_text(json.dumps({"verdict": "ACCEPT", "findings": []}))
    with pytest.raises(DataError, match="of bench and of gate"):
        read([tmp_path / "bench.json", tmp_path / "gate.json"])
