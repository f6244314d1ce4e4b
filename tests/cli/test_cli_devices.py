"""`tledge bench`, `gate` and `report` on several machines: the others are played by this one."""

import json
from pathlib import Path

import pytest
from test_cli_main import one_line
from tiny_project import call

from tledge import device
from tledge.artifacts import to_dict
from tledge.bench.bundled import run_bundle
from tledge.cli import screen
from tledge.device.contents import Part
from tledge.errors import DeviceError
from tledge.gate.budget import load
from tledge.gate.judge import judge
from tledge.gate.measure import measure

SHORT = ("--length", "8", "--duration", "0.5", "--for", "p50")
BOARD, GONE = "ssh://pi@board", "ssh://pi@gone"


@pytest.fixture
def boards(monkeypatch):
    """Devices that bench and judge here, but for GONE; gives what each call was asked."""
    calls = []

    def on_board(record):
        def call(url, bundle, arguments, **options):
            calls.append((url, bundle, list(arguments), options))
            if url.endswith("@gone"):
                raise DeviceError("pi@gone: no such host; check the name")
            found = to_dict(record(bundle, list(arguments)))
            machine = (found if "machine" in found else found["bench"])["machine"]
            machine |= {"cpu": "Imaginary Board", "architecture": "aarch64", "cpu_flags": ["asimddp"]}
            return found

        return call

    def bench(bundle, arguments):
        return run_bundle(bundle, lengths=[8], percentile=50, duration_s=0.5)

    def gate(bundle, arguments):
        limits = load(arguments[arguments.index("--budget") + 1])
        return judge(measure(bundle, limits, duration_s=0.5), limits)

    monkeypatch.setattr(device, "bench", on_board(bench))
    monkeypatch.setattr(device, "gate", on_board(gate))
    return calls


@pytest.fixture
def budget(tmp_path):
    path = tmp_path / "budget.yaml"
    path.write_text("size_mb: 10\n", encoding="utf-8")
    return path


def asked(*urls):
    return [word for url in urls for word in ("--device", url)]


def test_a_bench_of_several_machines_is_one_table(boards, tiny_bundle, capfd):
    done = call(capfd, "bench", tiny_bundle, *SHORT, *asked("local", BOARD))
    assert (done.code, done.err) == (0, "")
    assert "aarch64 dot product" in done.out
    assert "the fastest on" in done.out
    assert "Beside each figure is the ratio of its time to that of fp32." in done.out
    assert done.out.count("processor: ") == 2
    [(url, bundle, arguments, options)] = boards
    assert (url, bundle, options["python"], options["options"]) == (BOARD, tiny_bundle, "python3", ())
    assert arguments[:2] == ["--scenario", "single-stream"]


def test_a_machine_that_is_gone_loses_nothing_of_the_others(boards, tiny_bundle, tmp_path, capfd):
    history = tmp_path / "history.jsonl"
    done = call(capfd, "bench", tiny_bundle, *SHORT, *asked(GONE, BOARD), "--json", "--history", history)
    one_line(done, 14, "pi@gone: no such host")
    found = json.loads(done.out)
    gone, board = found["machines"]
    assert (gone["device"], gone["bench"], gone["exit_code"]) == (GONE, None, 14)
    assert {row["candidate"] for row in board["bench"]["latencies"]} == {"fp32", "int8"}
    assert "on Imaginary Board, aarch64 dot product." in found["fastest"][0]["sentence"]
    assert len(history.read_text(encoding="utf-8").splitlines()) == 2


@pytest.mark.parametrize("shape", [(), ("--json",), ("--markdown",)], ids=str)
def test_no_machine_at_all(shape, boards, tiny_bundle, capfd):
    done = call(capfd, "bench", tiny_bundle, *SHORT, *asked(GONE, "ssh://me@gone"), *shape)
    assert done.code == 14
    assert done.err == "error: pi@gone: no such host; check the name\n" * 2
    assert "candidate" not in done.out
    assert "ssh://me@gone" in done.out


@pytest.mark.slow
def test_each_device_may_have_a_python_of_its_own(boards, tiny_bundle, capfd):
    pythons = ("--device-python", "a", "--device-python", "b")
    call(capfd, "bench", tiny_bundle, *SHORT, *asked(GONE, "local", BOARD), *pythons, "--ssh-option", "User=me")
    assert [(url, options["python"], options["options"]) for url, *_, options in boards] == [
        (GONE, "a", ("User=me",)), (BOARD, "b", ("User=me",)),
    ]  # fmt: skip


@pytest.mark.parametrize("verb", ["bench", "gate"])
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (asked(BOARD, BOARD), 9, f"--device: {BOARD} is there twice"),
        (asked("local", "telnet://box"), 2, "telnet"),
        (asked(BOARD, "local", GONE) + ["--device-python", "a"] * 3, 9, "one for each of the 2 devices"),
        ([*asked(BOARD), "--ssh-option", "x"], 2, "--ssh-option"),
    ],
)
def test_mistakes_are_found_before_anything_runs(options, code, message, verb, boards, budget, tiny_bundle, capfd):
    more = ("--budget", budget) if verb == "gate" else SHORT
    done = call(capfd, verb, tiny_bundle, *more, *options)
    one_line(done, code, message)
    assert (done.out, boards) == ("", [])


def test_local_alone_is_this_machine(boards, tiny_bundle, capfd):
    done = call(capfd, "bench", tiny_bundle, *SHORT, *asked("local"), "--json")
    assert (done.code, boards) == (0, [])
    assert json.loads(done.out)["name"] == "tiny"


def test_a_run_folder_has_the_same_rows_here_and_there(boards, tiny, tmp_path, capfd):
    for run in ("new", "old"):
        (tmp_path / run).mkdir()
        tiny.write(tmp_path / run / "bundle")
    options = ("--against", tmp_path / "old", *SHORT[:4], *asked("local", GONE), "--json")
    done = call(capfd, "bench", tmp_path / "new", *options)
    [compared] = json.loads(done.out)["machines"][0]["bench"]["comparisons"]
    assert compared["candidate"] == f"int8 of {tmp_path / 'new' / 'bundle'}"
    assert boards[0][1] == tmp_path / "new" / "bundle"
    assert boards[0][2][-2:] == ["--against", tmp_path / "old" / "bundle"]


@pytest.mark.parametrize(("urls", "code"), [((BOARD,), 0), (("local", BOARD), 0), (("local", BOARD, GONE), 14)])
def test_the_gate_of_devices(urls, code, boards, budget, tiny_bundle, capfd):
    done = call(capfd, "gate", tiny_bundle, "--budget", budget, "--duration", "0.5", *asked(*urls))
    assert done.code == code
    assert done.out.splitlines()[-1].startswith("ACCEPT: ")
    assert "aarch64 dot product" in done.out
    assert boards[0][2] == ["--budget", budget, "--duration", "0.5", "--provider", "cpu"]


def test_the_worst_verdict_is_the_exit_code(boards, budget, tiny_bundle, tmp_path, capfd):
    budget.write_text("size_mb: 0.0001\n", encoding="utf-8")
    files = ("--json", tmp_path / "gate.json", "--markdown", tmp_path / "gate.md", "--history", tmp_path / "h.jsonl")
    done = call(capfd, "gate", tiny_bundle, "--budget", budget, *asked("local", BOARD), *files, "--any-machine")
    assert (done.code, done.err) == (11, "")
    assert done.out.splitlines()[-1] == "REGRESSION: of 2 machines 2 REGRESSION"
    assert json.loads((tmp_path / "gate.json").read_text(encoding="utf-8"))["verdict"] == "REGRESSION"
    assert (tmp_path / "gate.md").read_text(encoding="utf-8").rstrip().endswith("<!-- tledge gate tiny -->")
    assert len((tmp_path / "h.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert boards[0][2][-1] == "--any-machine"


def test_a_format_of_one_verdict_takes_one_device(boards, budget, tiny_bundle, tmp_path, capfd):
    done = call(capfd, "gate", tiny_bundle, "--budget", budget, *asked("local", BOARD), "--junit", tmp_path / "j.xml")
    one_line(done, 9, "--junit: its format has one machine's verdict")
    assert boards == []


def test_json_on_standard_output_and_nothing_else(budget, tiny_bundle, capfd):
    done = call(capfd, "gate", tiny_bundle, "--budget", budget, "--json", "-")
    assert json.loads(done.out)["verdict"] == "ACCEPT"
    assert not Path("-").exists()


def test_rows_travel_with_their_images(boards, budget, tiny_image_bundle, photos, capfd):
    budget.write_text("min_metric: 0\n", encoding="utf-8")
    rows = photos / "rows.csv"
    rows.write_text("image,label\nred.jpg,red\nmore/blue.png,blue\n", encoding="utf-8")
    call(capfd, "gate", tiny_image_bundle, "--budget", budget, "--rows", rows, *asked(GONE))
    arguments = boards[0][2]
    assert arguments[arguments.index("--rows") + 1] == Part(
        photos, ("rows.csv", "red.jpg", "more/blue.png"), "rows.csv"
    )
    (photos / "more" / "rows.csv").write_text("image,label\n../red.jpg,red\n", encoding="utf-8")
    done = call(
        capfd, "gate", tiny_image_bundle, "--budget", budget, "--rows", photos / "more" / "rows.csv", *asked(GONE)
    )
    one_line(done, 3, "is not below the folder of the file")


@pytest.mark.parametrize(
    ("text", "more", "told"),
    [
        ("min_metric: 0", (), ["note: the metric is that of answers which the run stored"]),
        ("min_metric: 0", ("--rows", "ROWS"), []),
        ("size_mb: 10", (), []),
    ],
)
def test_a_metric_that_no_device_answered_is_said(
    text, more, told, boards, budget, tiny_bundle, tmp_path, monkeypatch, capfd
):
    said = []
    monkeypatch.setattr(screen, "say", said.append)
    budget.write_text(text, encoding="utf-8")
    (tmp_path / "rows.csv").write_text("text,label\ngood,positive\n", encoding="utf-8")
    more = [tmp_path / "rows.csv" if word == "ROWS" else word for word in more]
    call(capfd, "gate", tiny_bundle, "--budget", budget, *asked(BOARD), *more)
    assert [line[:54] for line in said] == [line[:54] for line in told]


def test_what_a_run_answered_travels_with_its_bundle(boards, budget, tiny, tmp_path, capfd):
    run = tmp_path / "run"
    (run / "quantize").mkdir(parents=True)
    tiny.write(run / "bundle")
    (run / "quantize" / "answers.npz").write_bytes(b"")
    (run / "quantize" / "model_int8.onnx").write_bytes(b"")
    call(capfd, "gate", run, "--budget", budget, "--against", run, *asked(GONE))
    part = Part(run, ("bundle", "quantize/answers.npz"))
    assert boards[0][1] == part
    assert boards[0][2][:4] == ["--budget", budget, "--against", part]


@pytest.mark.slow
def test_stored_results_side_by_side(boards, budget, tiny_bundle, tmp_path, capfd):
    for name, url in (("a.json", "local"), ("b.json", BOARD)):
        (tmp_path / name).write_text(call(capfd, "bench", tiny_bundle, *SHORT, *asked(url), "--json").out)
        call(capfd, "gate", tiny_bundle, "--budget", budget, *asked(url), "--json", tmp_path / f"gate-{name}")
    done = call(capfd, "report", tmp_path / "a.json", tmp_path / "b.json")
    assert (done.code, done.err) == (0, "")
    assert "aarch64 dot product" in done.out
    assert "the fastest on" in done.out
    found = json.loads(call(capfd, "report", tmp_path / "a.json", tmp_path / "b.json", "--json").out)
    assert [each["device"] for each in found["machines"]] == [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    assert "## Machines" in call(capfd, "report", tmp_path / "a.json", tmp_path / "b.json", "--markdown").out
    gates = (tmp_path / "gate-a.json", tmp_path / "gate-b.json")
    assert call(capfd, "report", *gates).out.splitlines()[-1] == "ACCEPT: of 2 machines 2 ACCEPT"
    assert json.loads(call(capfd, "report", *gates, "--json").out)["verdict"] == "ACCEPT"
    assert call(capfd, "report", *gates, "--markdown").out.startswith("## ACCEPT: tiny")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 9, "expected either files of results"),
        (("a.json", "--history", "h"), 9, "expected either files of results"),
        (("a.json", "--out", "x.html"), 9, "--out is the page of --history"),
        (("--history", "h", "--json"), 9, "--json and --markdown print a table"),
        (("a.json",), 3, "a.json cannot be read"),
    ],
)
def test_mistakes_with_stored_results(arguments, code, message, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    one_line(call(capfd, "report", *arguments), code, message)
