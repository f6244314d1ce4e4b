"""The gate on a device over SSH, and the command line with a device, this machine and one that is not there."""

from __future__ import annotations

import json

import numpy as np
import pytest
from loopback import free_port
from tiny_project import call

from tledge import answers, artifacts, device
from tledge.errors import InputError, RecipeError
from tledge.gate import sent
from tledge.gate.budget import load

SHORT = ("--length", "8", "--duration", "0.5", "--for", "p50")


@pytest.fixture
def gate(ssh_server, far, source):
    """The verdict of the gate on the server; with the options of `sent.arguments`."""

    def on_server(bundle, budget, *, against=None, rows=None):
        arguments = sent.arguments(bundle, budget, load(budget), against=against, rows=rows)
        found = device.gate(
            ssh_server.url,
            sent.bundle(bundle),
            [*arguments, "--duration", "0.5"],
            python=far.python(),
            options=ssh_server.options,
            timeout_s=120,
        )
        return artifacts.from_dict(artifacts.Verdict, found)

    return on_server


@pytest.fixture
def budget(tmp_path):
    def write(text):
        (tmp_path / "budget.yaml").write_text(text, encoding="utf-8")
        return tmp_path / "budget.yaml"

    return write


def test_a_verdict_comes_back_whatever_it_is(gate, far, budget, tiny_bundle):
    verdict = gate(tiny_bundle, budget("size_mb: 10"))
    assert (verdict.verdict, verdict.name, [each.limit for each in verdict.findings][:1]) == (
        "ACCEPT", "tiny", ["size_mb"],
    )  # fmt: skip
    assert gate(tiny_bundle, budget("size_mb: 0.0001")).verdict == "REGRESSION"
    assert gate(tiny_bundle, budget("max_slowdown: 0.1")).verdict == "INCONCLUSIVE"
    assert {path.name for path in far.store.iterdir()} == {"files", "lock"}


def test_rows_of_the_budget_with_images_are_taken_along(gate, budget, tiny_image_bundle, photos):
    (photos / "rows.csv").write_text("image,label\nred.jpg,red\nmore/blue.png,blue\n", encoding="utf-8")
    verdict = gate(tiny_image_bundle, budget(f"min_metric: 0.1\nevaluation:\n  rows: {photos / 'rows.csv'}\n"))
    [found] = [each for each in verdict.findings if each.limit == "min_metric"]
    assert found.measured == 1.0
    assert "2 rows of rows.csv" in found.reason


def test_the_answers_of_runs_are_taken_along(gate, budget, tiny, tmp_path):
    for run in ("new", "old"):
        folder = tmp_path / run / "quantize"
        folder.mkdir(parents=True)
        tiny.write(tmp_path / run / "bundle")
        hashes, targets = np.arange(9, dtype=np.uint64), np.arange(9) % 3
        answers.save(folder, hashes, targets, {"int8": {"logits": np.eye(3, dtype=np.float32)[targets]}})
    verdict = gate(tmp_path / "new", budget("max_metric_drop: 0.9"), against=tmp_path / "old")
    [found] = [each for each in verdict.findings if each.limit == "max_metric_drop"]
    assert found.measured == 0.0
    assert verdict.against.startswith("tiny ")


def test_a_mistake_found_there_is_that_mistake_here(gate, ssh_server, budget, tiny_bundle):
    with pytest.raises(InputError) as caught:
        gate(tiny_bundle, budget("size_mb: 1\nvariant: int9"))
    assert str(caught.value).startswith(f"on {ssh_server.name}: the budget's variant 'int9' is not in {tiny_bundle}; ")
    with pytest.raises(RecipeError, match=f"on {ssh_server.name}: the budget's metric 'f9'"):
        gate(tiny_bundle, budget("size_mb: 1\nmetric: f9"))


@pytest.mark.slow
def test_a_device_beside_this_machine_and_one_that_is_not_there(
    ssh_server, far, source, budget, tiny_bundle, tmp_path, capfd
):
    gone = f"ssh://127.0.0.1:{free_port()}"
    devices = [word for url in (gone, "local", ssh_server.url) for word in ("--device", url)]
    options = [word for option in ssh_server.options for word in ("--ssh-option", option)]
    ways = (*devices, *options, "--device-python", far.python())
    done = call(capfd, "bench", tiny_bundle, *SHORT, *ways, "--json")
    assert done.code == 14
    assert "error: 127.0.0.1:" in done.err
    lost, local, board = json.loads(done.out)["machines"]
    assert "no SSH server answers" in lost["error"]
    at = [[(row["candidate"], row["sequence"]) for row in each["bench"]["latencies"]] for each in (local, board)]
    assert at[0] == at[1] == [("fp32", 8), ("int8", 8)]
    assert local["bench"]["machine"]["fingerprint"] == board["bench"]["machine"]["fingerprint"]
    done = call(capfd, "gate", tiny_bundle, "--budget", budget("size_mb: 0.0001"), *ways[2:])
    assert (done.code, done.out.splitlines()[-1]) == (11, "REGRESSION: of 2 machines 2 REGRESSION")
    done = call(capfd, "gate", tiny_bundle, "--budget", budget("size_mb: 0.0001"), *ways)
    assert done.code == 14
    assert done.out.splitlines()[-1] == "REGRESSION: of 3 machines 2 REGRESSION, 1 without a result"
