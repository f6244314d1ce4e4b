"""Verdicts of several machines side by side."""

import dataclasses

import verdicts

from tledge.artifacts import ACCEPT, INCONCLUSIVE, REGRESSION, Finding, OnMachine
from tledge.gate import machines

SIZE = Finding("size_mb", ACCEPT, "within the limit", 30.0, 23.3, unit="MB", variant="int8")
SLOW = Finding("p95_ms", REGRESSION, "above\nthe limit", 2.8, 3.0, 2.9, 3.1, "ms", "int8", "cpu", 1, 32, 1)
FAST = dataclasses.replace(SLOW, verdict=ACCEPT, reason="within the limit", measured=2.0, low=1.9, high=2.1)
DOWN = OnMachine("ssh://gone", error="gone: no such host", exit_code=14)
NAME = "Imaginary, x86_64 AVX2 without VNNI"


def on(device, word, *findings):
    return OnMachine(device, verdict=verdicts.verdict(word, findings))


def test_each_machine_has_its_verdict_and_each_limits_finding():
    found = machines.side_by_side([on("local", ACCEPT, SIZE, FAST), on("ssh://board", REGRESSION, SIZE, SLOW), DOWN])
    assert found.verdict == REGRESSION
    shown = machines.section(found)
    assert shown.header == ("limit", "of", "allowed", f"{NAME} (local)", f"{NAME} (ssh://board)", "ssh://gone")
    assert shown.rows == (
        ("verdict", "", "", ACCEPT, REGRESSION, "no result"),
        ("size_mb", "int8", "30 MB", "ACCEPT, 23.3 MB", "ACCEPT, 23.3 MB", "no result"),
        (
            "p95_ms", "int8, batch 1, length 32, 1 thread, cpu", "2.8 ms",
            "ACCEPT, 2 ms (1.9 to 2.1)", "REGRESSION, 3 ms (2.9 to 3.1)", "no result",
        ),
    )  # fmt: skip
    assert shown.notes == (
        f"REGRESSION on {NAME} (ssh://board): p95_ms: int8, batch 1, length 32, 1 thread, cpu: above the limit",
        "ssh://gone gave no result: gone: no such host",
    )
    assert machines.summary(found) == "REGRESSION: of 3 machines 1 REGRESSION, 1 ACCEPT, 1 without a result"


def test_a_limit_that_one_machine_alone_looked_at_is_empty_elsewhere():
    shown = machines.section(machines.side_by_side([on("local", ACCEPT, SIZE, SIZE), on("ssh://board", ACCEPT, SIZE)]))
    assert [row[3:] for row in shown.rows[1:]] == [("ACCEPT, 23.3 MB", "ACCEPT, 23.3 MB"), ("ACCEPT, 23.3 MB", "–")]


def test_no_verdict_at_all():
    found = machines.side_by_side([DOWN, DOWN])
    assert found.verdict == ""
    assert machines.summary(found) == "no verdict: of 2 machines 2 without a result"


def test_the_comment_has_it_all_and_the_marker_last():
    found = machines.side_by_side([on("local", INCONCLUSIVE, SIZE), DOWN])
    text = machines.markdown(found, "<!-- x -->")
    assert text.startswith("## INCONCLUSIVE: made-up.bundle aaaaaaaaaaaa against made-up.bundle bbbbbbbbbbbb\n")
    assert "| size\\_mb | int8 | 30 MB | ACCEPT, 23.3 MB | no result |" in text
    assert "ssh://gone gave no result" in text
    assert text.endswith("\n\n<!-- x -->\n")


def test_the_kinds_of_processor_of_all_are_named_once():
    kinds = [("x86_64 AMX", "aarch64 i8mm"), ("x86_64 AMX", "aarch64 dot product")]
    judged = [dataclasses.replace(verdicts.verdict(ACCEPT, (SIZE,)), processors=each) for each in kinds]
    found = machines.side_by_side([OnMachine(f"d{i}", verdict=each) for i, each in enumerate(judged)])
    assert machines.section(found).notes[-1] == (
        "Evidence is from x86_64 AMX and aarch64 i8mm and aarch64 dot product; other kinds of processor are unseen."
    )
