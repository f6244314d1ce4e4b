import dataclasses

import pytest

from tledge.artifacts import BenchResult, Footprint, Latency, Machine
from tledge.bench import table

MACHINE = Machine("Imaginary", "x86_64", (), 4, None, 8000.0, "Linux", "3.11", "1.31.1", (), 0.2)
INT8 = Latency(
    "int8", 1, 32, 1, 100, 2.1, {"p50": 0.7, "p90": 2.5}, {"p95": 130}, median_low_ms=0.692, median_high_ms=0.7111
)
FOOTPRINT = Footprint("int8", 23.34, 45.67, 3.2, 120.0, 60.0, {"CUDAExecutionProvider": 9, "CPUExecutionProvider": 3})


def test_the_median_has_its_interval_and_other_percentiles_have_none():
    header, rows = table.rows(BenchResult(MACHINE, (INT8,), ()))
    assert header[5:7] == ("p50 ms", "p90 ms")
    assert rows[0][5:7] == ("0.700 (0.692 to 0.711)", "2.50")


@pytest.mark.parametrize(
    ("change", "end"),
    [
        ({}, "9 nodes on CUDA, 3 nodes on CPU"),
        (
            {"time_share_by_provider": {"CUDAExecutionProvider": 0.82, "CPUExecutionProvider": 0.18}},
            "9 nodes on CUDA (82 % of the time), 3 nodes on CPU (18 % of the time)",
        ),
        (
            {"shape_arithmetic": {"Concat": 1, "Squeeze": 1}},
            "9 nodes on CUDA, 3 nodes on CPU (2 of them shape arithmetic)",
        ),
        ({"threads": 4, "busy_cores": 3.62}, "9 nodes on CUDA, 3 nodes on CPU, 3.6 of 4 threads busy"),
        ({"nodes_by_provider": {}}, "placement of nodes unknown"),
    ],
)
def test_a_footprint_tells_where_its_nodes_ran(change, end):
    line = table.lines(BenchResult(MACHINE, (), (dataclasses.replace(FOOTPRINT, **change),)))[0]
    assert line.endswith(f"(60.0 before loading), {end}")
