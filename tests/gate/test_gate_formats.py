"""Every format, read back by its own rules."""

import dataclasses
import json
import math
import re
from xml.etree import ElementTree

import pytest
from verdicts import FINDINGS, accepted, bench, comparison, latency, verdict

from tledge import plugins
from tledge.artifacts import ACCEPT, ANOMALOUS, INCONCLUSIVE, REGRESSION, Finding, Verdict
from tledge.gate.formats import bencher, benchmark_action, github, junit, markdown

KINDS = ["bencher", "benchmark_action", "github", "junit", "markdown"]
TESTSUITE = {"name", "tests", "failures", "errors", "skipped", "timestamp"}
SCHEMA = {
    "testsuites": ({"name", "tests", "failures", "errors"}, set(), {"testsuite"}),
    "testsuite": (TESTSUITE - {"timestamp"}, TESTSUITE, {"properties", "testcase"}),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "testcase": ({"name", "classname"}, {"time"}, {"failure", "error", "skipped", "system-out"}),
    "failure": (set(), {"message", "type"}, set()),
    "error": (set(), {"message", "type"}, set()),
    "skipped": (set(), {"message", "type"}, set()),
    "system-out": (set(), set(), set()),
}
"""Of each element: the attributes that we owe, those that may be there, and the children (a part of junit-10.xsd)."""


def conforms(element):
    owed, allowed, children = SCHEMA[element.tag]
    assert owed <= set(element.attrib) <= owed | allowed
    for child in element:
        assert child.tag in children
        conforms(child)


def test_the_kinds_are_found_by_their_files_names():
    assert plugins.names("tledge.gate.formats") == KINDS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", [verdict(), accepted(), Verdict(INCONCLUSIVE, ()), verdict(bench=None)])
def test_every_kind_renders_every_verdict_and_ends_its_last_line(kind, case):
    text = plugins.load("tledge.gate.formats", kind).render(case)
    assert text.endswith("\n")
    text.encode("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", text)


def test_junit_keeps_to_the_schema_that_jenkins_reads():
    root = ElementTree.fromstring(junit.render(verdict()))
    conforms(root)
    (suite,) = root.iter("testsuite")
    assert {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4", "failures": "1", "errors": "1", "skipped": "1",
    }  # fmt: skip
    assert suite.get("timestamp") == "2026-01-02T03:04:05"


def test_junit_has_a_case_for_each_finding_with_its_reason_as_message():
    root = ElementTree.fromstring(junit.render(verdict()))
    told = {
        case.get("name"): [(e.tag, e.get("type"), e.get("message")) for e in case] for case in root.iter("testcase")
    }
    assert told["p95_ms: int8, batch 1, length 32, 1 thread, cpu"] == [
        ("failure", REGRESSION, "3.0 ms is above 2.8 ms, and so is\nthe whole interval")
    ]
    assert told["samples"] == [("error", ANOMALOUS, "100 % of the counts differ: 150, not 130")]
    assert told["load_ms: int8"] == [("skipped", INCONCLUSIVE, "made on | another <machine> & �[1m�")]
    assert [tag for tag, _, _ in told["size_mb: int8"]] == ["system-out"]


def test_junit_tells_the_machine_and_the_versions():
    root = ElementTree.fromstring(junit.render(verdict()))
    told = {each.get("name"): each.get("value") for each in root.iter("property")}
    assert told["machine"] == "Imaginary CPU @ 2.00GHz, x86_64 AVX2 without VNNI"
    assert (told["onnxruntime"], told["fingerprint"], told["version"]) == ("1.31.1", "0123456789ab", "aaaaaaaaaaaa")


def test_junit_never_has_two_cases_of_one_name():
    same = Finding("size_mb", ACCEPT, "within the limit")
    root = ElementTree.fromstring(junit.render(verdict(ACCEPT, (same, same, same))))
    assert [case.get("name") for case in root.iter("testcase")] == ["size_mb", "size_mb (2)", "size_mb (3)"]


def test_junit_of_a_verdict_without_findings_is_not_an_empty_suite_that_passes():
    root = ElementTree.fromstring(junit.render(Verdict(INCONCLUSIVE, ())))
    assert [each.tag for each in root.iter("skipped")] == ["skipped"]


def test_the_comment_starts_with_the_verdict_and_ends_with_the_marker():
    lines = markdown.render(verdict()).splitlines()
    assert lines[0] == "## REGRESSION: made-up.bundle aaaaaaaaaaaa against made-up.bundle bbbbbbbbbbbb"
    assert lines[2] == "1 ANOMALOUS, 1 REGRESSION, 1 INCONCLUSIVE, 1 ACCEPT."
    assert lines[-1] == "<!-- tledge gate made-up.bundle -->" == markdown.marker("made-up.bundle")


def test_the_comments_table_has_the_worst_first_and_survives_any_text():
    rows = [line for line in markdown.render(verdict()).splitlines() if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [6] * 6
    assert [row.split(" | ")[3] for row in rows[2:]] == [ANOMALOUS, REGRESSION, INCONCLUSIVE, ACCEPT]
    assert (
        "| 2.8 ms | 3 ms (2.9 to 3.1) | REGRESSION | 3.0 ms is above 2.8 ms, and so is the whole interval |" in rows[3]
    )
    assert r"made on \| another &lt;machine> &amp; " in rows[4]


def test_the_comment_tells_the_machine_and_stays_short():
    many = tuple(dataclasses.replace(FINDINGS[1], reason="x" * 5000) for _ in range(500))
    text = markdown.render(verdict(findings=many))
    assert "onnxruntime 1.31.1, fingerprint 0123456789ab" in text
    assert "460 more findings are not shown" in text
    assert len(text) < 20_000  # GitHub takes 65,536


def test_a_slowdown_is_read_in_percent():
    finding = Finding("max_slowdown", REGRESSION, "slower", 0.05, 0.081, 0.0712, 0.0931, variant="int8")
    assert "| 5 % | 8.1 % (7.12 to 9.31) |" in markdown.render(verdict(findings=(finding,)))


def test_no_name_closes_the_marker():
    assert markdown.marker('a --> <script>\n"b\\') == "<!-- tledge gate a -- script b -->"


def unescape(text):
    """What the runner reads of a command, in the order of its own decoding."""
    for code, char in (("%2C", ","), ("%3A", ":"), ("%0A", "\n"), ("%0D", "\r"), ("%25", "%")):
        text = text.replace(code, char)
    return text


def commands(text):
    found = [re.fullmatch(r"::(\w+) title=([^:,]*)::(.*)", line) for line in text.splitlines()]
    return [(match[1], unescape(match[2]), unescape(match[3])) for match in found]


def test_annotations_are_errors_warnings_and_one_notice():
    assert commands(github.render(verdict())) == [
        ("error", "ANOMALOUS: samples", "100 % of the counts differ: 150, not 130"),
        (
            "error",
            "REGRESSION: p95_ms: int8, batch 1, length 32, 1 thread, cpu",
            "3.0 ms is above 2.8 ms, and so is\nthe whole interval",
        ),
        ("warning", "INCONCLUSIVE: load_ms: int8", "made on | another <machine> & �[1m�"),
    ]
    (notice,) = commands(github.render(accepted()))
    told = "made-up.bundle aaaaaaaaaaaa against made-up.bundle bbbbbbbbbbbb: 1 ACCEPT"
    assert notice == ("notice", "tledge gate: ACCEPT", told)


def test_annotations_escape_what_github_would_read_as_its_own():
    finding = Finding("100%: a,b", REGRESSION, "50 % of\r\n::error::no, yes: 1")
    assert github.render(verdict(findings=(finding,))) == (
        "::error title=REGRESSION%3A 100%25%3A a%2Cb::50 %25 of%0D%0A::error::no, yes: 1\n"
    )


def test_the_tenth_annotation_tells_of_those_that_github_would_drop():
    lines = commands(github.render(verdict(findings=(FINDINGS[1],) * 25)))
    assert len(lines) == 10
    assert lines[-1] == ("error", "tledge gate", "16 more findings are in the step's summary")


def test_benchmark_action_has_every_figure_of_which_less_is_better():
    entries = json.loads(benchmark_action.render(verdict()))
    values = {entry["name"]: (entry["value"], entry["unit"]) for entry in entries}
    where = "(batch 1, length 32, 1 thread, cpu)"
    assert values[f"made-up.bundle int8 p50 {where}"] == (2.5, "ms")
    assert values[f"made-up.bundle int8 p95 {where}"] == (3.0, "ms")
    assert values["made-up.bundle int8 end to end p50 (1 thread, cpu)"] == (2.7, "ms")
    assert values["made-up.bundle int8 load"] == (81.0, "ms")
    assert values["made-up.bundle int8 size"] == (23.3, "MB")
    assert values["made-up.bundle int8 peak memory"] == (118.7, "MB")
    assert len(values) == len(entries) == 11
    assert all(set(entry) <= {"name", "unit", "value", "range", "extra"} for entry in entries)
    median = next(entry for entry in entries if entry["name"] == f"made-up.bundle int8 p50 {where}")
    assert median["range"] == "± 0.1"
    assert "samples: 150\nmachine: Imaginary CPU" in median["extra"]


def test_names_in_dashboards_do_not_change_with_version_or_time():
    later = verdict(version="cccccccccccc", created="2027-01-01T00:00:00+00:00", against="")
    for module in (benchmark_action, bencher):
        assert module.render(later) == module.render(verdict())


def test_bencher_has_its_own_measures_in_their_units_and_ours_with_units():
    found = json.loads(bencher.render(verdict()))
    assert found["made-up.bundle int8 (batch 1, length 32, 1 thread, cpu)"] == {
        "latency": {"value": 2_500_000.0, "lower_value": 2_400_000.0, "upper_value": pytest.approx(2_550_000.0)},
        "p95_ms": {"value": 3.0},
    }
    assert found["made-up.bundle int8 (batch 8, length 32, 1 thread, cpu)"] == {
        "throughput": {"value": 900.0, "lower_value": 880.0, "upper_value": 915.0}
    }
    assert found["made-up.bundle int8"] == {
        "load_ms": {"value": 81.0}, "size_mb": {"value": 23.3}, "peak_memory_mb": {"value": 118.7},
    }  # fmt: skip


def test_numbers_that_are_not_finite_never_reach_a_dashboard():
    broken = bench(latencies=(latency(p50=math.nan), latency("fp32", math.inf)), footprints=())
    for module in (benchmark_action, bencher):
        text = module.render(verdict(bench=broken))
        assert not re.search(r"NaN|Infinity", text)
        assert "p95" not in text
        json.loads(text)


def test_a_bare_benchmark_goes_to_dashboards_under_the_same_names():
    for module in (benchmark_action, bencher):
        assert module.render_bench(bench()) == module.render(verdict())


def test_a_budget_of_size_and_slowdown_alone_fills_the_dashboards_under_the_same_names():
    compared = dataclasses.replace(comparison(), candidate="int8 of made-up.bundle aaaaaaaaaaaa")
    lean = verdict(bench=bench(latencies=(), footprints=(), end_to_end=(), throughput=(), comparisons=(compared,)))
    entries = json.loads(benchmark_action.render(lean))
    where = "(batch 1, length 32, 1 thread, cpu)"
    assert [(entry["name"], entry["value"]) for entry in entries] == [
        (f"made-up.bundle int8 p50 {where}", 2.8),
        ("made-up.bundle int8 size", 23.3),
    ]
    assert json.loads(bencher.render(lean)) == {
        f"made-up.bundle int8 {where}": {"latency": {"value": pytest.approx(2_800_000)}},
        "made-up.bundle int8": {"size_mb": {"value": 23.3}},
    }


def test_the_comment_tells_where_the_evidence_is_from():
    kinds = ("x86_64 AVX512-VNNI", "x86_64 AVX2 without VNNI")
    sentence = "Evidence is from x86_64 AVX512-VNNI and x86_64 AVX2 without VNNI; other kinds of processor are unseen."
    assert sentence in markdown.render(verdict(processors=kinds)).replace("\\_", "_")
    assert "Evidence" not in markdown.render(verdict())
