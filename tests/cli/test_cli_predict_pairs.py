"""`tledge predict` of pairs of texts: two values an answer, on the command line, in lines and in tables."""

from __future__ import annotations

import json

import pytest
from tiny_project import call, tledge

from tledge.runtime import Predictor


@pytest.fixture
def pairs(tiny, tmp_path):
    """The bundle of a tiny classifier of pairs."""
    tiny.write(tmp_path / "pairs", task="text_pair_classification", input_kind="text_pair")
    return tmp_path / "pairs"


def answers(done):
    return [(each["text"], each["text_pair"]) for each in map(json.loads, done.out.splitlines())]


def test_values_are_taken_two_at_a_time(pairs, capfd):
    assert answers(call(capfd, "predict", pairs, "good", "bad", "x", "late")) == [("good", "bad"), ("x", "late")]
    done = call(capfd, "predict", pairs, "good", "bad", "x")
    assert (done.code, answers(done)) == (9, [("good", "bad")])
    assert "TEXT 2: the task takes text and text_pair together, but 'x' is the last VALUE" in done.err


def test_lines_have_a_tab_between_both(pairs, tmp_path, capfd):
    (tmp_path / "t.txt").write_text("good\tbad\nalone\n")
    done = call(capfd, "predict", pairs, "--file", tmp_path / "t.txt")
    assert (done.code, answers(done)) == (9, [("good", "bad")])
    assert "t.txt:2: expected text and text_pair with a tab between them, got 'alone'" in done.err
    piped = tledge("predict", pairs, "-", input="good\tbad\n", code=0)
    assert json.loads(piped.stdout)["text_pair"] == "bad"


def test_tables_have_two_columns(pairs, tmp_path, capfd):
    path = tmp_path / "t.csv"
    path.write_text("text,text_pair\ngood,bad\n")
    assert answers(call(capfd, "predict", pairs, "--file", path)) == [("good", "bad")]
    path.write_text("a,b\ngood,bad\n")
    named = call(capfd, "predict", pairs, "--file", path, "--column", "b", "--column", "a")
    assert answers(named) == [("bad", "good")]
    for columns, told in (
        ((), "its columns are 'a', 'b'; say which of them are the task's: --column TEXT --column TEXT_PAIR"),
        (("a",), "--column: got a; the task takes text and text_pair: give it 2 times, each another column"),
        (("a", "a"), "--column: got a, a; the task takes"),
        (("a", "c"), "has no column 'c'; its columns are 'a', 'b'"),
    ):
        options = [part for column in columns for part in ("--column", column)]
        done = call(capfd, "predict", pairs, "--file", path, *options)
        assert (done.code, told in done.err) == (9, True), done.err
    path.write_text('{}\n{"text": "good", "text_pair": "bad"}\n')
    done = call(capfd, "predict", pairs, "--file", path.rename(tmp_path / "t.jsonl"))
    assert "t.jsonl:1: expected an object with columns, got {}" in done.err


def test_a_predictor_takes_tuples(pairs):
    predictor = Predictor.load(pairs)
    one, (first, second) = predictor.predict(("good", "bad")), predictor.predict([("good", "bad"), ("x", "late")])
    assert one == first != second
    for wrong in ("good", ["good", "bad"], [("good",)], [("good", 3)], ("good", "bad", "x")):
        with pytest.raises(Exception, match=r"expected (two texts|a text)"):
            predictor.predict(wrong)
