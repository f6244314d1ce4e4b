"""`tledge predict` with a language model: answers, streams, refusals, and Ctrl-C."""

import json
import signal
import subprocess
import sys

import language_bundle
import pytest
from test_cli_main import one_line
from tiny_project import call, tledge

from tledge.runtime import Generator


@pytest.fixture(scope="module")
def folder():
    return language_bundle.shared()


@pytest.fixture(scope="module")
def generator(folder):
    return Generator.load(folder, threads=1)


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


def test_one_object_a_prompt(folder, generator, capfd):
    done = call(capfd, "predict", folder, "The ferry", "", "--max-new-tokens", "5", "--threads", "1")
    assert (done.code, done.err) == (0, "")
    expected = [generator.generate(prompt, max_new_tokens=5) for prompt in ("The ferry", "")]
    assert objects(done.out) == [
        {"text": prompt, "generated": each.text, "tokens": each.tokens, "finish_reason": each.finish_reason}
        for prompt, each in zip(("The ferry", ""), expected, strict=True)
    ]


def test_options_are_passed_on(folder, generator, capfd):
    whole = generator.generate("The ferry", max_new_tokens=12).text
    stops = ("--stop", "nowhere in it", "--stop", whole[4:6])
    [answer] = objects(call(capfd, "predict", folder, "The ferry", "--max-new-tokens", "12", *stops).out)
    assert answer["generated"] == whole[: whole.index(whole[4:6])]
    assert answer["finish_reason"] == "stop"
    drawing = ("--temperature", "1.2", "--top-k", "30", "--top-p", "0.9", "--seed", "5", "--max-new-tokens", "8")
    [answer] = objects(call(capfd, "predict", folder, "The ferry", *drawing).out)
    settings = {"temperature": 1.2, "top_k": 30, "top_p": 0.9, "seed": 5, "max_new_tokens": 8}
    assert answer["generated"] == generator.generate("The ferry", **settings).text


def test_prompts_from_a_file(folder, tmp_path, capfd):
    (tmp_path / "t.jsonl").write_text('{"text": "The\\nferry"}\n', encoding="utf-8")
    done = call(capfd, "predict", folder, "--file", tmp_path / "t.jsonl", "--max-new-tokens", "2")
    assert [each["text"] for each in objects(done.out)] == ["The\nferry"]


def test_stream_prints_the_prompt_and_what_follows(folder, generator, capfd):
    done = call(capfd, "predict", folder, "The ferry", "x", "--stream", "--max-new-tokens", "9", "--threads", "1")
    assert (done.code, done.err) == (0, "")
    texts = [prompt + generator.generate(prompt, max_new_tokens=9).text for prompt in ("The ferry", "x")]
    assert done.out == "".join(f"{text}\n" for text in texts)


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["x" * 64], 9, ["TEXT 1: the prompt has 64 tokens; this model reads 64", "at most 63"]),
        (["x", "--max-new-tokens", "0"], 2, ["--max-new-tokens"]),
        (["x", "--temperature", "-1"], 9, ["temperature must be 0"]),
        (["x", "--temperature", "1", "--top-p", "2"], 9, ["top_p must be above 0 and at most 1", "2.0"]),
        (["x", "--top-k", "4"], 9, ["temperature 0 draws nothing", "set a temperature"]),
        (["x", "--stop", ""], 9, ["stop: expected texts that are not empty"]),
        (["x", "--seed", "-3"], 9, ["seed must be 0 or more, got -3"]),
        (["x" * 64, "--stream"], 9, ["TEXT 1: the prompt has 64 tokens"]),
        (["x", "--temperature", "-1", "--stream"], 9, ["temperature must be 0"]),
    ],
)
def test_mistakes(folder, arguments, code, parts, capfd):
    done = call(capfd, "predict", folder, *arguments)
    one_line(done, code, *parts)
    assert done.out == ""


def test_options_of_language_models_are_refused_elsewhere(tiny_bundle, capfd):
    for arguments in (["--max-new-tokens", "5"], ["--stop", "."], ["--top-k", "3"], ["--seed", "1"], ["--stream"]):
        done = call(capfd, "predict", tiny_bundle, "good", *arguments)
        one_line(done, 9, arguments[0], "only for language models; the task of this bundle is text_classification")
        assert done.out == ""


def test_ctrl_c_ends_the_line_and_shows_no_traceback(folder):
    """Standard input stays open, so that it can only be stopped: the first answer was printed, the next one waits."""
    with subprocess.Popen(
        [sys.executable, "-m", "tledge", "predict", str(folder), "The ferry", "-", "--stream", "--max-new-tokens", "3"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
    ) as process:  # fmt: skip
        assert process.stdout.readline().startswith("The ferry")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.startswith("stopped")
    assert "Traceback" not in err


ENDLESS = """\
import sys, time
from tledge import cli
from tledge.runtime import generate
choose = generate.choose
def slow(*arguments):
    time.sleep(0.2)
    return choose(*arguments)
generate.choose = slow
sys.argv = ["tledge", "predict", sys.argv[1], "The ferry", "--stream"]
cli.main()
"""


def test_ctrl_c_in_the_middle_of_a_text(folder):
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.read(len("The ferry") + 1).startswith(b"The ferry")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.endswith(b"\n")
    assert err.startswith(b"stopped")
    assert b"Traceback" not in err


def test_verify_and_a_light_start(folder):
    done = tledge("verify", folder, code=0)
    assert "tokens the same" in done.stdout
