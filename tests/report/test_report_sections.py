import dataclasses
import re
import subprocess
import sys

import pytest

from tledge.artifacts import Comparison, EndToEnd, LatencyRatio, OperatorTime, ServerLoad, Throughput
from tledge.report import bench_markdown, html
from tledge.report.benchmark import footprints, machine_facts, table
from tledge.report.sections import sections

EVIL = "<script>alert(1)</script> | `x`"


@pytest.fixture
def measured(facts):
    """A benchmark with everything in it, all made up."""
    bench = facts.bench
    share = {"CPUExecutionProvider": 1.0}
    operators = (
        OperatorTime("MatMul", "CPUExecutionProvider", 36, 6.41, 0.72),
        OperatorTime(EVIL, "CPUExecutionProvider", 12, 0.5, 0.06),
    )
    fp32 = dataclasses.replace(
        bench.footprints[0], time_share_by_provider=share, operators=operators, threads=2, busy_cores=1.87
    )
    ratio, noise = LatencyRatio("old", 0.95, 0.94, 0.96, 400), LatencyRatio("old", 1.001, 0.995, 1.007, 400)
    machine = dataclasses.replace(
        bench.machine,
        onnxruntime_build="made-up build",
        frequency_mhz=2450.0,
        max_frequency_mhz=3500.0,
        governor="schedutil",
        temperature_c=61.4,
        fingerprint="0123456789abcdef",
    )
    percentiles = {"p50": 2.5, "p99": 9.87}
    return dataclasses.replace(
        bench,
        machine=machine,
        footprints=(fp32, *bench.footprints[1:]),
        latencies=tuple(
            dataclasses.replace(row, median_low_ms=row.mean_ms * 0.99, median_high_ms=row.mean_ms * 1.01)
            for row in bench.latencies
        ),
        end_to_end=(
            EndToEnd("fp32", 1, 100, 0.41, 9.2, 0.05, {"p50": 9.71, "p90": 10.4}, {"p99": 662}),
            EndToEnd(EVIL, 1, 100, 0.41, 2.8, 0.05, {"p50": 3.3}, {"p90": 64, "p99": 662}),
        ),
        throughput=(Throughput("fp32", 8, 32, 1, 100, 1234.5, 1200.2, 1260.9),),
        server=(
            ServerLoad("fp32", 1, 32, 1, 50.0, 49.6, 0.463, 1324, "p99", 20.0, 0.9984, True, percentiles),
            ServerLoad("fp32", 1, 32, 1, 200.0, 108.1, 0.999, 1324, "p99", 20.0, 0.01, False, percentiles),
            ServerLoad("fp32", 1, 32, 1, 5.0, 5.0, 0.05, 60, "p99", 20.0, 1.0, None, {"p50": 2.5}, {"p99": 662}),
        ),
        comparisons=(
            Comparison(
                "new", "old", 1, 32, 1, "cpu", ratio, noise, 0.02, "faster", "5 % less | `time`", 9.0, 9.5, True
            ),
        ),
    )


def test_what_was_not_measured_has_no_section(facts):
    assert sections(facts.bench) == ()


def test_every_section_has_rows_as_wide_as_its_header(measured):
    found = sections(measured)
    assert [each.title for each in found] == [
        "Comparison",
        "End to end, one raw value at a time",
        "Throughput",
        "Server, requests at random",
        "Slowest operators",
    ]
    for section in found:
        assert {len(row) for row in section.rows} == {len(section.header)}
        assert set(section.words) <= set(section.header)


def test_figures_of_each_section(measured):
    comparison, end_to_end, throughput, server, operators = sections(measured)
    assert comparison.rows[0] == (
        "new", "old", "batch 1, length 32, 1 thread, cpu", "faster", "0.950 (0.940 to 0.960)", "1.001 (0.995 to 1.007)",
        "2 %", "9.00", "9.50",
    )  # fmt: skip
    assert comparison.notes == ("new against old: 5 % less | `time` (each in a process of its own)",)
    assert end_to_end.rows[0] == ("fp32", "1", "0.410", "9.20", "0.050", "9.71", "10.4", "100")
    assert end_to_end.rows[1][6] == "needs 64 samples"
    assert end_to_end.notes == ("p99 needs 662 samples; there are 100.",)
    assert throughput.rows == (("fp32", "batch 8, length 32, 1 thread", "1,234", "1,200 to 1,261", "100"),)
    met, missed, open_ = (dict(zip(server.header, row, strict=True)) for row in server.rows)
    assert (met["asked, 1/s"], met["answered, 1/s"], met["busy"]) == ("50", "49.6", "46 %")
    assert (met["bound"], met["within it"], met["bound is"]) == ("p99 in 20 ms", "99.84 %", "met")
    assert missed["bound is"] == "missed"
    assert (open_["bound is"], open_["p99, ms"]) == ("open", "needs 662 samples")
    assert operators.rows[0] == ("fp32", "MatMul", "CPU", "36", "6.41", "72 %")


def test_markdown_shows_each_and_keeps_foreign_text_in_its_cell(measured):
    text = bench_markdown(measured)
    for shown in (
        "**Comparison**",
        "| `new` | old | batch 1, length 32, 1 thread, cpu | faster |",
        "- new against old: 5 % less \\| \\`time\\` (each in a process of its own)",
        "**Throughput**",
        "<details><summary>Slowest operators</summary>",
        "11.4 (11.3 to 11.5)",
        "214 on CPU (100 % of the time)",
        "1.9 of 2",
        "frequency: 2,450 MHz, at most 3,500 MHz, governor schedutil, temperature: 61 °C at the hottest sensor",
        "fingerprint: 0123456789abcdef",
    ):
        assert shown in text
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
    assert re.findall(r"<(?!/?(?:details|summary)>)", outside) == []
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        widths = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1


def test_the_page_shows_each_and_keeps_foreign_text_as_text(facts, measured):
    page = html(dataclasses.replace(facts, bench=measured))
    for shown in (
        "<h3>Comparison</h3>",
        '<td class="nowrap">faster</td>',
        '<td class="number">1,200 to 1,261</td>',
        "<summary>Slowest operators</summary>",
        "p99 needs 662 samples; there are 100.",
        "<dt>temperature</dt>",
        '<th scope="col" class="number">busy cores</th>',
        '<td class="nowrap">214 on CPU (100 % of the time)</td>',
    ):
        assert shown in page
    assert "<script" not in page


def test_busy_cores_have_a_column_only_where_they_were_measured(facts, measured):
    assert "busy cores" not in footprints(facts.bench)[0]
    header, rows = footprints(measured)
    assert [row[header.index("busy cores")] for row in rows] == ["1.9 of 2", "not measured", "not measured"]


def test_a_median_without_an_interval_stands_alone(facts, measured):
    assert table(facts.bench).blocks[0].rows[0].percentiles[0] == "11.4"
    assert table(measured).blocks[0].rows[0].percentiles[0] == "11.4 (11.3 to 11.5)"


def test_machine_facts_that_cannot_be_read_are_left_out(facts, measured):
    assert {"frequency", "temperature", "fingerprint", "onnxruntime build"}.isdisjoint(
        dict(machine_facts(facts.bench.machine))
    )
    unlimited = dataclasses.replace(measured.machine, max_frequency_mhz=None, governor="")
    assert dict(machine_facts(unlimited))["frequency"] == "2,450 MHz"


def test_the_kind_of_processor_stands_beside_its_name(facts):
    assert dict(machine_facts(facts.bench.machine))["processor"] == "Imaginary CPU @ 2.00GHz, x86_64 AVX512-VNNI"


def test_a_benchmark_is_reported_on_the_device_install():
    code = (
        "import sys\n"
        "for name in ('jinja2', 'torch', 'pydantic', 'onnx', 'sklearn'): sys.modules[name] = None\n"
        "from tledge.artifacts import BenchResult, Machine\n"
        "from tledge.report import bench_markdown\n"
        "machine = Machine('a cpu', 'x86_64', (), 1, None, 1.0, 'Linux', '3', '1', (), None)\n"
        "print(bench_markdown(BenchResult(machine, (), ())))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "No latency was measured." in done.stdout
