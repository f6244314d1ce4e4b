"""`tledge gate`: its exit codes, its files, and the mistakes that a user makes with it."""

import json
from xml.etree import ElementTree

import pytest
from test_cli_main import one_line
from tiny_project import call

from tledge import processor


@pytest.fixture
def budget(tmp_path):
    def write(text):
        path = tmp_path / "budget.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,label\ngood,positive\nbad,negative\ntrain,neutral\nlate,neutral\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "code", "verdict"),
    [
        ("size_mb: 10", 0, "ACCEPT"),
        ("size_mb: 0.0001", 11, "REGRESSION"),
        ("load_ms: 60000", 13, "INCONCLUSIVE"),
        ("max_slowdown: 0.1", 13, "INCONCLUSIVE"),
        ("provider: azure\npeak_memory_mb: 100000", 12, "ANOMALOUS"),
    ],
)
def test_the_exit_code_is_the_verdict(text, code, verdict, budget, tiny_bundle, capfd):
    done = call(capfd, "gate", tiny_bundle, "--budget", budget(text), "--duration", "0.5")
    assert (done.code, done.err) == (code, "")
    assert done.out.splitlines()[-1].startswith(f"{verdict}: ")
    assert f", {processor.here().kind}, " in done.out


def test_limits_on_time_hold_here_when_the_user_says_so(budget, tiny_bundle, capfd):
    done = call(capfd, "gate", tiny_bundle, "--budget", budget("load_ms: 60000"), "--any-machine")
    assert done.code == 0


def test_every_file_that_is_asked_for(budget, rows, tiny, tmp_path, capfd):
    tiny.write(tmp_path / "new")
    tiny.write(tmp_path / "old")
    out = tmp_path / "gate"
    text = "size_mb: 10\nmax_slowdown: 0.5\nmin_metric: 0\nmax_metric_drop: 1\nmax_parity_error: 0.9\np50_ms: 60000\n"
    files = ("junit.xml", "comment.md", "verdict.json", "bench.json", "bmf.json", "history.jsonl")
    options = ("--junit", "--markdown", "--json", "--benchmark-json", "--bencher-json", "--history")
    done = call(
        capfd, "gate", tmp_path / "new", "--against", tmp_path / "old", "--budget", budget(text), "--rows", rows,
        "--duration", "0.5", *(part for pair in zip(options, [out / f for f in files], strict=True) for part in pair),
    )  # fmt: skip
    assert done.code in (0, 13)  # what the host's noise lets it say of the slowdown, and of time on a machine not named
    assert ElementTree.parse(out / "junit.xml").getroot().tag == "testsuites"
    verdict = json.loads((out / "verdict.json").read_text(encoding="utf-8"))
    assert {finding["limit"] for finding in verdict["findings"]} >= {
        "size_mb", "max_slowdown", "min_metric", "max_metric_drop", "max_parity_error", "p50_ms",
    }  # fmt: skip
    assert verdict["verdict"] in (out / "comment.md").read_text(encoding="utf-8").splitlines()[0]
    assert json.loads((out / "bench.json").read_text(encoding="utf-8"))[0]["unit"] == "ms"
    assert json.loads((out / "bmf.json").read_text(encoding="utf-8"))
    assert (out / "history.jsonl").read_text(encoding="utf-8").count("\n") >= 1


def test_annotations_and_a_summary_where_github_runs_it(budget, tiny_bundle, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    done = call(capfd, "gate", tiny_bundle, "--budget", budget("size_mb: 0.0001"))
    assert done.code == 11
    assert any(line.startswith("::error title=") for line in done.out.splitlines())
    assert "REGRESSION" in (tmp_path / "summary.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "arguments", "code", "message"),
    [
        ("p95: 3", (), 2, "budget.yaml:1: p95: unknown key"),
        ("", (), 2, "budget.yaml"),
        ("size_mb: 1", ("--against", "nothing"), 8, "there is no nothing"),
        ("min_metric: 0.5", ("--rows", "nothing.csv"), 3, "nothing.csv"),
        ("size_mb: 1", ("--junit", "/proc/x/j.xml"), 9, "cannot be written"),
    ],
)
def test_mistakes(text, arguments, code, message, budget, tiny_bundle, capfd):
    done = call(capfd, "gate", tiny_bundle, "--budget", budget(text), *arguments)
    one_line(done, code, message)


def test_a_budget_that_is_not_there(tiny_bundle, capfd):
    done = call(capfd, "gate", tiny_bundle, "--budget", "no.yaml")
    one_line(done, 2, "no.yaml")
