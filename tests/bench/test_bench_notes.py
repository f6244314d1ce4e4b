import dataclasses

import pytest

from tledge.artifacts import Footprint, Machine, ServerLoad
from tledge.bench.notes import notes

MACHINE = Machine("Imaginary", "x86_64", (), 4, None, 8000.0, "Linux", "3.11", "1.31.1", (), 0.2)
FOOTPRINT = Footprint("int8", 23.34, 45.67, 3.2, 120.0, 60.0, {"CPUExecutionProvider": 12})
LOAD = ServerLoad("int8", 1, 32, 1, 50.0, 49.6, 0.4, 1324, "p99", 10.0, 1.0, True, {"p50": 1.5})


@pytest.mark.parametrize(
    ("facts", "noted"),
    [
        ({}, ""),
        ({"frequency_mhz": 2000.0}, ""),
        ({"frequency_mhz": 3000.0, "max_frequency_mhz": 3500.0}, ""),
        (
            {"frequency_mhz": 1200.0, "max_frequency_mhz": 3500.0, "governor": "powersave"},
            "the cores ran at 1200 of 3500 MHz (governor powersave) when the benchmark began",
        ),
        ({"temperature_c": 70.0}, ""),
        ({"temperature_c": 92.4}, "the hottest sensor showed 92 °C when the benchmark began"),
    ],
)
def test_notes_name_slow_and_hot_cores(facts, noted):
    found = notes(dataclasses.replace(MACHINE, **facts), [], 90)
    assert len(found) == bool(noted)
    assert all(note.startswith(noted) for note in found)


def test_notes_name_nodes_that_fell_to_another_provider():
    nodes = {"CUDAExecutionProvider": 200, "CPUExecutionProvider": 14}
    fallen = dataclasses.replace(FOOTPRINT, nodes_by_provider=nodes)
    assert notes(MACHINE, [], 90, footprints=[fallen], provider="cuda") == (
        "int8 was to run on CUDAExecutionProvider and has 14 of 214 nodes on CPUExecutionProvider",
    )
    for shapes, told in (
        (
            {"Concat": 2, "Squeeze": 2},
            "CPUExecutionProvider, 4 of them shape arithmetic that belongs there (Concat 2, Squeeze 2)",
        ),
        ({"Concat": 14}, "CPUExecutionProvider, all of them shape arithmetic that belongs there (Concat 14)"),
    ):
        on_purpose = dataclasses.replace(fallen, shape_arithmetic=shapes)
        assert notes(MACHINE, [], 90, footprints=[on_purpose], provider="cuda")[0].endswith(told)
    timed = dataclasses.replace(fallen, time_share_by_provider={"CPUExecutionProvider": 0.35})
    assert notes(MACHINE, [], 90, footprints=[timed], provider="CUDAExecutionProvider")[0].endswith(
        "14 of 214 nodes on CPUExecutionProvider (35 % of the time)"
    )
    uncounted = dataclasses.replace(timed, nodes_by_provider={})
    assert notes(MACHINE, [], 90, footprints=[uncounted], provider="cuda") == (
        "int8 was to run on CUDAExecutionProvider and has some nodes on CPUExecutionProvider (35 % of the time)",
    )
    assert notes(MACHINE, [], 90, footprints=[FOOTPRINT]) == ()


@pytest.mark.parametrize(("threads", "busy", "noted"), [(1, 2.0, 1), (1, 1.1, 0), (2, 2.0, 0), (1, None, 0)])
def test_notes_name_a_provider_with_threads_of_its_own(threads, busy, noted):
    footprint = dataclasses.replace(FOOTPRINT, threads=threads, busy_cores=busy)
    found = notes(MACHINE, [], 90, footprints=[footprint])
    assert [note.partition(":")[2] for note in found] == noted * [
        " 1 thread was asked for, but 2.0 cores were busy: the provider has threads of its own"
    ]


@pytest.mark.parametrize(
    ("threads", "busy", "noted"), [(None, None, 0), (1, 0.3, 0), (4, 3.5, 0), (4, 1.1, 1), (4, None, 0)]
)
def test_notes_name_a_pool_that_stays_idle(threads, busy, noted):
    footprint = dataclasses.replace(FOOTPRINT, threads=threads, busy_cores=busy)
    found = notes(MACHINE, [], 90, footprints=[footprint])
    assert len(found) == noted
    assert all(note.startswith("int8 kept 1.1 of 4 threads busy") for note in found)


def test_notes_name_an_overload_and_a_bound_that_stays_open():
    assert notes(MACHINE, [], 90, server=[LOAD]) == ()
    full = dataclasses.replace(LOAD, utilization=0.998, achieved_rate=31.26, met=False)
    assert notes(MACHINE, [], 90, server=[full])[0].startswith(
        "int8 was busy 100 % of the time at 50 requests a second and answered 31.3: it is overloaded"
    )
    few = dataclasses.replace(LOAD, requests=60, met=None)
    assert notes(MACHINE, [], 90, server=[few]) == (
        "60 requests are too few to say whether p99 of int8 is within 10 ms at 50 requests a second; raise duration_s",
    )


def test_notes_name_a_pool_that_is_larger_than_the_quota():
    limited = dataclasses.replace(MACHINE, quota_cores=1.5)
    assert notes(limited, [], 90, server=[dataclasses.replace(LOAD, threads=2)])[0].startswith(
        "2 threads are more than the CPU quota of 1.5 cores"
    )
