"""`tledge bench` of a language model's bundle: what it writes, and one token at a time."""

import json
import shutil

import decoder_graph
import language_bundle
import pytest
from test_cli_main import one_line
from tiny_project import call

SHORT = ("--duration", "0.2", "--for", "p50")


@pytest.fixture(scope="module", autouse=True)
def made():
    """What is printed while the bundle is made is no command's."""
    language_bundle.shared()


def result(capfd, *arguments):
    done = call(capfd, "bench", language_bundle.shared(), *SHORT, *arguments, "--json")
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


@pytest.mark.slow
def test_variants_write_side_by_side(capfd):
    found = result(capfd, "--length", "5,9", "--new-tokens", "4")
    rows = found["generations"]
    assert [(row["candidate"], row["prompt"], row["new_tokens"]) for row in rows] == [
        ("fp32", 5, 4), ("int8", 5, 4), ("fp32", 9, 4), ("int8", 9, 4),
    ]  # fmt: skip
    assert all(row["first_token_ms"]["p50"] > 0 and row["token_ms"]["p50"] > 0 for row in rows)
    assert [row["against"] and row["against"]["reference"] for row in rows] == [None, "fp32", None, "fp32"]
    assert (found["latencies"], found["end_to_end"], found["decoding"]) == ([], [], True)


def test_the_table_stands_first(capfd):
    done = call(capfd, "bench", language_bundle.shared(), *SHORT, "--length", "5", "--new-tokens", "4")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Generation, one token after another")
    assert "batch 1, 4 tokens after 5, 1 thread" in done.out
    assert done.out.index("tokens/s") < done.out.index("fp32: ")


def test_scenarios_and_comparisons_time_one_token(capfd):
    offline = result(capfd, "--scenario", "offline", "--batch", "1,2", "--length", "8")
    assert [(row["candidate"], row["batch"], row["sequence"]) for row in offline["throughput"]] == [
        ("fp32", 1, 8), ("fp32", 2, 8), ("int8", 1, 8), ("int8", 2, 8),
    ]  # fmt: skip
    compared = result(capfd, "--against", "fp32", "--length", "8")
    [row] = compared["comparisons"]
    assert (row["candidate"], row["reference"], row["sequence"], compared["decoding"]) == ("int8", "fp32", 8, True)
    done = call(capfd, "bench", language_bundle.shared(), *SHORT, "--against", "fp32", "--length", "8")
    assert "batch 1, one token after 8, 1 thread" in done.out
    load = ("--scenario", "server", "--variant", "int8", "--rate", "200", "--bound-ms", "500")
    assert result(capfd, *load)["server"][0]["sequence"] == 32


def test_torch_eager_and_the_teacher_write_beside_the_variants_of_a_run(tmp_path, capfd):
    language_bundle.copy(tmp_path / "bundle")
    checkpoint = decoder_graph.decoder("gpt2").checkpoint
    for stages, expected in (
        (["train"], ["fp32", "torch eager"]),
        (["distill"], ["fp32", "teacher in torch eager", "torch eager"]),
    ):
        for stage in stages:
            shutil.copytree(checkpoint, tmp_path / stage / "checkpoint")
        options = (*SHORT, "--variant", "fp32", "--length", "5", "--new-tokens", "3", "--json")
        done = call(capfd, "bench", tmp_path, *options)
        rows = json.loads(done.out)["generations"]
        assert [row["candidate"] for row in rows] == expected
        assert {row["against"]["reference"] for row in rows if row["against"]} == {expected[1]}
    done = call(capfd, "bench", tmp_path, *options, "--no-torch", "--history", tmp_path / "history.jsonl")
    assert [row["candidate"] for row in json.loads(done.out)["generations"]] == ["fp32"]
    assert json.loads((tmp_path / "history.jsonl").read_text(encoding="utf-8"))["variant"] == "fp32"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--length", "60"), "--length: a prompt of 60 tokens and 32 new ones are more than the context of 64"),
        (("--new-tokens", "64"), "--new-tokens: expected 2 to 63"),
        (("--new-tokens", "4", "--against", "fp32"), "--new-tokens: --against times one token"),
        (("--new-tokens", "4", "--scenario", "offline"), "--new-tokens: --scenario offline times one token"),
        (("--scenario", "offline", "--length", "64"), "takes at most 63 tokens before the one that is timed"),
        (("--dim", "height=3"), "--dim: "),
    ],
)
def test_what_makes_no_sense_is_told_in_a_line(arguments, message, capfd):
    one_line(call(capfd, "bench", language_bundle.shared(), *arguments), 9, message)


def test_other_bundles_write_nothing(tiny_bundle, capfd):
    one_line(call(capfd, "bench", tiny_bundle, "--new-tokens", "4"), 9, "is not a language model's bundle")
