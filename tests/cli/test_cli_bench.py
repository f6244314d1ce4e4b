"""`tledge bench` beyond single runs: against another, offline, server, elsewhere, and its history."""

import json

import foreign
import onnx
import pytest
from test_cli_main import one_line
from tiny_project import call

SHORT = ("--length", "8", "--duration", "0.5")


def comparison(out):
    [found] = json.loads(out)["comparisons"]
    return found


def test_against_another_variant_by_name(tiny_bundle, capfd):
    done = call(capfd, "bench", tiny_bundle, "--against", "fp32", *SHORT, "--json")
    assert (done.code, done.err) == (0, "")
    found = comparison(done.out)
    assert (found["candidate"], found["reference"], found["sequence"]) == ("int8", "fp32", 8)
    assert found["ratio"]["low"] <= found["ratio"]["ratio"] <= found["ratio"]["high"]


def test_against_another_bundle_and_at_several_settings(tiny, tmp_path, capfd):
    tiny.write(tmp_path / "new")
    tiny.write(tmp_path / "old")
    done = call(
        capfd, "bench", tmp_path / "new", "--against", tmp_path / "old", "--batch", "1,2", *SHORT, "--json"
    )  # fmt: skip
    assert done.code == 0
    found = json.loads(done.out)["comparisons"]
    assert [each["batch"] for each in found] == [1, 2]
    assert found[0]["candidate"] == f"int8 of {tmp_path / 'new'}"


def test_graphs_that_tledge_did_not_make(tiny, tmp_path, capfd):
    old, new = tiny.graphs / "model.onnx", tiny.graphs / "model_int8.onnx"
    done = call(capfd, "bench", new, "--against", old, *SHORT, "--within", "0.5")
    assert (done.code, done.err) == (0, "")
    assert "Comparison" in done.out
    assert "host's own noise" in done.out
    done = call(capfd, "bench", new, *SHORT, "--for", "p50", "--json")
    result = json.loads(done.out)
    assert (result["name"], result["latencies"][0]["candidate"]) == ("model_int8", "model_int8")
    assert result["end_to_end"] == []


def test_a_bundle_is_timed_from_the_raw_value_to_the_answer(tiny_bundle, capfd):
    done = call(capfd, "bench", tiny_bundle, *SHORT, "--for", "p50", "--json")
    result = json.loads(done.out)
    assert [each["candidate"] for each in result["end_to_end"]] == ["fp32", "int8"]
    assert all(each["preprocess_ms"] > 0 and each["postprocess_ms"] > 0 for each in result["end_to_end"])
    assert {f["nodes_by_provider"]["CPUExecutionProvider"] > 0 for f in result["footprints"]} == {True}
    assert all(f["operators"] for f in result["footprints"])


@pytest.mark.slow
def test_the_slowest_operators_are_shown_when_asked_for(tiny_bundle, capfd):
    shown = [call(capfd, "bench", tiny_bundle, *SHORT, "--for", "p50", *more).out for more in ((), ("--operators",))]
    assert ["Slowest operators" in out for out in shown] == [False, True]


def test_offline(tiny_bundle, capfd):
    done = call(capfd, "bench", tiny_bundle, "--scenario", "offline", "--batch", "1,4", *SHORT, "--json")
    assert (done.code, done.err) == (0, "")
    rows = json.loads(done.out)["throughput"]
    assert [(each["candidate"], each["batch"]) for each in rows] == [
        ("fp32", 1), ("fp32", 4), ("int8", 1), ("int8", 4),
    ]  # fmt: skip
    assert all(each["low"] <= each["rows_per_second"] <= each["high"] for each in rows)


def test_server(tiny_bundle, capfd):
    load = ("--scenario", "server", "--variant", "int8", "--rate", "400", "--bound-ms", "500", "--for", "p90")
    done = call(capfd, "bench", tiny_bundle, *load, *SHORT, "--json")
    assert (done.code, done.err) == (0, "")
    [row] = json.loads(done.out)["server"]
    assert (row["rate"], row["percentile"], row["requests"]) == (400, "p90", 128)
    assert 0 <= row["within_bound"] <= 1


@pytest.mark.slow
def test_a_history_gains_a_line_for_each_run_and_becomes_a_page(tiny_bundle, tmp_path, capfd):
    history = tmp_path / "history.jsonl"
    for _ in range(2):
        call(capfd, "bench", tiny_bundle, *SHORT, "--for", "p50", "--history", history)
    assert len(history.read_text(encoding="utf-8").splitlines()) == 4
    done = call(capfd, "report", "--history", history, "--out", tmp_path / "trend.html")
    assert done.out == f"4 records: {tmp_path / 'trend.html'}\n"
    assert "<svg" in (tmp_path / "trend.html").read_text(encoding="utf-8")
    done = call(capfd, "report", "--history", history, "--out", tmp_path / "trend.md")
    assert "int8" in (tmp_path / "trend.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--scenario", "ofline"), 9, "--scenario: expected one of single-stream, offline, server"),
        (("--scenario", "server"), 9, "--scenario server needs --rate"),
        (("--scenario", "server", "--rate", "5"), 9, "--scenario server needs --bound-ms"),
        (("--rate", "5"), 9, "belong to --scenario server"),
        (("--scenario", "offline", "--against", "fp32"), 9, "--against compares single runs"),
        (("--for", "p100"), 9, "--for: expected a percentile from p50 to p99.9"),
        (("--for", "often"), 9, "--for: expected a percentile"),
        (("--dim", "height"), 9, "--dim: expected NAME=N"),
        (("--against", "fp16"), 9, "'fp16' is not in"),
        (("--against", "no/such/bundle"), 8, "there is no no/such/bundle"),
        (("--against", "fp32", "--variant", "fp32", "--variant", "int8"), 9, "--variant: one is compared"),
        (("--device", "telnet://box"), 2, "telnet"),
        (("--provider", "azure", "--strict-provider"), 9, "--strict-provider"),
    ],
)
def test_mistakes(arguments, code, message, tiny_bundle, capfd):
    done = call(capfd, "bench", tiny_bundle, *arguments)
    one_line(done, code, message)


@pytest.mark.parametrize(("out", "message"), [("page.pdf", "ends in .html or .md"), ("no/such/x.md", "cannot be")])
def test_a_page_that_cannot_be_written(out, message, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "h.jsonl").write_text("", encoding="utf-8")
    done = call(capfd, "report", "--history", "h.jsonl", "--out", out)
    one_line(done, 9, message)


@pytest.fixture
def fixed(tmp_path):
    """A graph of somebody's for 1 text of 16 tokens, whose table of segments has one row."""
    return foreign.text(tmp_path / "model[int8].onnx", (1, 16), segments=1)


NOTES = (
    "note: model[int8]: all runs have a batch of 1, as the graph takes no other (its input 'input_ids' is 1 x 16)",
    "note: model[int8]: all rows have 16 tokens, as the graph takes no other (its input 'input_ids' is 1 x 16)",
)


@pytest.mark.parametrize("scenario", ["single-stream", "offline", "server"])
def test_a_graph_of_a_fixed_size_is_run_at_it_and_says_so(scenario, fixed, capfd):
    load = ("--rate", "200", "--bound-ms", "500", "--for", "p50") if scenario == "server" else ()
    done = call(capfd, "bench", fixed, "--scenario", scenario, *load, "--duration", "0.3")
    assert (done.code, done.err) == (0, "")
    assert all(note in done.out.splitlines() for note in NOTES)
    assert "model[int8]" in done.out.split("note: ")[0]
    done = call(capfd, "bench", fixed, "--scenario", scenario, *load, "--duration", "0.3", "--json")
    result = json.loads(done.out)
    assert {f"note: {note}" for note in result["notes"]} >= set(NOTES)
    rows = [*result["latencies"], *result["throughput"], *result["server"]]
    assert {(row["batch"], row["sequence"]) for row in rows} == {(1, 16)}
    done = call(capfd, "bench", fixed, "--scenario", scenario, *load, "--duration", "0.3", "--markdown")
    assert "as the graph takes no other" in done.out


@pytest.mark.parametrize("scenario", ["single-stream", "offline", "server", "against"])
@pytest.mark.parametrize(("what", "asked", "size"), [("batch", 8, 1), ("length", 128, 16)])
def test_another_size_than_the_fixed_one_is_one_line(scenario, what, asked, size, fixed, capfd):
    how = {"server": ("--scenario", "server", "--rate", "200", "--bound-ms", "500"), "against": ("--against", fixed)}
    done = call(capfd, "bench", fixed, *how.get(scenario, ("--scenario", scenario)), f"--{what}", asked)
    name = fixed if scenario == "against" else "model[int8]"
    one_line(
        done,
        9,
        f"--{what}: {name} takes a {what} of {size} alone (its input 'input_ids' is 1 x 16), got {asked}; "
        f"leave --{what} out, or export the graph for any {what}",
    )


def test_a_comparison_is_at_the_size_that_both_take(fixed, tmp_path, capfd):
    free = foreign.text(tmp_path / "model[bold].onnx")
    for new, old in ((fixed, free), (free, fixed)):
        done = call(capfd, "bench", new, "--against", old, "--duration", "0.3", "--json")
        found = comparison(done.out)
        assert (done.code, found["batch"], found["sequence"]) == (0, 1, 16)
        assert sum("as the graph takes no other" in note for note in json.loads(done.out)["notes"]) == 2


def test_names_with_square_brackets_are_shown_whole(fixed, tmp_path, capfd):
    (tmp_path / "a[").mkdir()
    other = foreign.text(tmp_path / "a[" / "b].onnx")
    done = call(capfd, "bench", fixed, "--against", other, "--duration", "0.3")
    assert (done.code, done.err) == (0, "")
    shown = "".join(done.out.split())  # a long name is folded
    assert str(fixed) in shown and str(other) in shown


def test_weights_that_are_missing_are_named(tmp_path, capfd):
    path = foreign.image(tmp_path / "g.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="any.bin", size_threshold=0)
    (tmp_path / "any.bin").unlink()
    done = call(capfd, "bench", path, "--duration", "0.3")
    one_line(done, 8, "g.onnx has weights in 'any.bin', which is not in")
