import mmap

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tledge.errors import BundleError, InputError
from tledge.footprint import child, memory


def test_footprint_of_a_graph(tiny_graph, feeds):
    ballast = np.ones(60_000_000)  # 480 MB in this process, which the child's peak must not inherit
    got = memory.footprint(tiny_graph, candidate="fp32", feeds=feeds, threads=1, provider="cpu", repeats=1)
    assert ballast[-1] == 1
    assert got.candidate == "fp32"
    assert got.nodes_by_provider == {"CPUExecutionProvider": 2}
    assert got.size_mb == tiny_graph.stat().st_size / 1e6
    assert got.time_share_by_provider in ({"CPUExecutionProvider": 1.0}, {})  # empty where all took less than 1 us
    assert got.threads == 1
    assert got.busy_cores > 0
    assert got.load_ms > 0
    assert got.first_run_ms > 0
    assert 10 < got.base_memory_mb <= got.peak_memory_mb < 400


def test_size_counts_the_files_of_weights_and_nothing_else(tiny_model, feeds, tmp_path):
    graph = tmp_path / "model.onnx"
    onnx.save(tiny_model, graph, save_as_external_data=True, location="weights.bin", size_threshold=100)
    (tmp_path / "model.onnx.data").write_bytes(b"12345")
    assert (tmp_path / "weights.bin").stat().st_size == 64 * 64 * 4
    got = memory.footprint(graph, candidate="fp32", feeds=feeds, repeats=1)
    assert got.size_mb == (graph.stat().st_size + 64 * 64 * 4) / 1e6


def test_a_graph_that_cannot_be_loaded_gives_one_line(tmp_path, feeds):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"this is no graph")
    with pytest.raises(BundleError, match=r"cannot measure 'int8': .*broken\.onnx") as error:
        memory.footprint(broken, candidate="int8", feeds=feeds, repeats=1)
    assert "\n" not in str(error.value)
    assert "Traceback" not in str(error.value)


def test_a_graph_that_cannot_be_run_gives_one_line(tiny_graph):
    with pytest.raises(BundleError, match=r"cannot measure 'fp32': .*'x'"):
        memory.footprint(tiny_graph, candidate="fp32", feeds={"z": np.zeros(1)}, repeats=1)


def test_no_space_for_the_input_tensors_gives_one_line(tiny_graph, feeds, monkeypatch):
    def full(path, **arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(BundleError, match=r"cannot write the input tensors .*: No space left on device$"):
        memory.footprint(tiny_graph, candidate="fp32", feeds=feeds, repeats=1)


def test_status_file():
    text = "Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t1\n"
    assert memory.parse_status(text) == (1_048_576, 2_097_152)
    assert memory.parse_status("") == (0, 0)


def test_memory_of_this_process_grows_with_it():
    before = memory.resident_bytes()
    with mmap.mmap(-1, 40_000_000) as ballast:  # an array could lie in memory that was freed before
        for start in range(0, len(ballast), mmap.PAGESIZE):
            ballast[start] = 1
        assert memory.resident_bytes() >= before + 0.5 * len(ballast)
        assert memory.peak_bytes() >= 0.9 * memory.resident_bytes()


def test_only_the_first_process_looks_where_the_nodes_run(tiny_graph, feeds, monkeypatch):
    asked = []
    start = memory._child

    def record(request, candidate):
        asked.append(request["profiled"])
        return start(request, candidate)

    monkeypatch.setattr(memory, "_child", record)
    got = memory.footprint(tiny_graph, candidate="fp32", feeds=feeds, repeats=2)
    assert asked == [True, False]
    assert got.nodes_by_provider == {"CPUExecutionProvider": 2}


@pytest.mark.skipif("AzureExecutionProvider" not in ort.get_available_providers(), reason="needs a second provider")
def test_a_strict_provider_that_leaves_nodes_to_the_cpu_is_an_input_error(tiny_graph, feeds):
    loose = memory.footprint(tiny_graph, candidate="fp32", feeds=feeds, provider="azure", repeats=1)
    assert loose.nodes_by_provider == {"CPUExecutionProvider": 2}
    with pytest.raises(InputError, match=r"cannot measure 'fp32': .*'azure' cannot run 2 of 2 nodes") as error:
        memory.footprint(tiny_graph, candidate="fp32", feeds=feeds, provider="azure", repeats=1, strict=True)
    assert "\n" not in str(error.value)


def test_busy_cores_are_processor_time_over_time(monkeypatch):
    class Clock:
        wall, used, runs = 0, 0, 0

        def perf_counter_ns(self):
            return self.wall

        def process_time_ns(self):
            return self.used

    clock = Clock()

    def run():
        clock.runs += 1
        clock.wall += 1_000_000_000
        clock.used += 9_000_000_000 if clock.runs == 1 else 1_500_000_000

    monkeypatch.setattr(child, "time", clock)
    assert child.busy_cores(run) == 1.5
    assert clock.runs == child.BUSY_RUNS + 1
