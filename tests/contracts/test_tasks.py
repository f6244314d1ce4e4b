"""Every task on disk is held to the table in `tledge.tasks`."""

import inspect
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from tledge import losses, plugins, tasks

ALL = plugins.names("tledge.tasks")
LABELS = ("a", "b", "c")
LOGITS = np.array([[9, -9, -9], [-9, 9, -9], [-9, 9, 8], [-2, -1, -3]], dtype=np.float32)
OUTPUTS = {"logits": LOGITS}
INDICES = {"text_classification": [[0], [1], [1], [1]], "text_multilabel": [[0], [1], [1, 2], []]}


def test_the_tasks_are_found():
    assert set(INDICES) == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_holds_what_the_package_documents(name):
    task = tasks.load(name)
    documented = re.findall(r"^`(\w+)`", tasks.__doc__, re.MULTILINE)
    assert len(documented) == 13
    for attribute in documented:
        value = getattr(task, attribute)
        if not attribute.isupper():
            assert callable(value)
            assert value.__doc__
        elif attribute == "NEEDS_LABEL":
            assert isinstance(value, bool)
        else:
            assert isinstance(value, str)
            assert value
    for function in ("parse_label", "targets", "decode", "decisions", "score"):
        ours, theirs = getattr(task, function), getattr(tasks.Task, function)
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


@pytest.mark.parametrize("name", ALL)
def test_names_an_input_a_loss_and_a_problem_type_that_exist(name):
    task = tasks.load(name)
    assert task.INPUT in plugins.names("tledge.inputs")
    assert task.LOSS in plugins.names(losses.__name__)
    assert task.PROBLEM_TYPE in {"single_label_classification", "multi_label_classification"}


@pytest.mark.parametrize("name", ALL)
def test_decode_decisions_and_score_agree_on_rows_and_labels(name):
    task = tasks.load(name)
    targets = task.targets(INDICES[name], len(LABELS))
    answers, decisions = task.decode(OUTPUTS, LABELS), task.decisions(OUTPUTS)
    assert len(answers) == len(decisions) == len(targets) == len(LOGITS)
    assert decisions.shape == targets.shape
    assert decisions.dtype == np.int64
    assert json.loads(json.dumps(answers)) == answers
    np.testing.assert_array_equal(decisions, targets)
    for answer, row in zip(answers, INDICES[name], strict=True):
        assert list(answer["scores"]) == list(LABELS)
        assert all(0 <= p <= 1 for p in answer["scores"].values())
        named = answer["labels"] if "labels" in answer else [answer["label"]]
        assert named == [LABELS[i] for i in row]


@pytest.mark.parametrize("name", ALL)
def test_score_is_best_for_right_answers_and_falls_with_wrong_ones(name):
    task = tasks.load(name)
    right = task.targets(INDICES[name], len(LABELS))
    scores = task.score(OUTPUTS, right)
    assert all(type(value) is float for value in scores.values())
    assert scores[task.METRIC] == 1.0
    wrong = task.targets([[2], [2], [0], [0]], len(LABELS))
    assert task.score(OUTPUTS, wrong)[task.METRIC] < 0.5


@pytest.mark.parametrize("name", ALL)
def test_half_precision_outputs_are_scored_like_full(name):
    task = tasks.load(name)
    targets = task.targets(INDICES[name], len(LABELS))
    half = {"logits": LOGITS.astype(np.float16)}
    assert task.score(half, targets) == pytest.approx(task.score(OUTPUTS, targets))


def test_parse_label_of_one_label():
    parse = tasks.load("text_classification").parse_label
    assert parse("  good ", "|") == ("good",)
    assert parse("a|b", "|") == ("a|b",)
    assert parse(3, "|") == ("3",)
    assert parse("  ", "|") == ()


def test_parse_label_of_several_labels():
    parse = tasks.load("text_multilabel").parse_label
    assert parse("a | b|a|", "|") == ("a", "b")
    assert parse("a,b", ",") == ("a", "b")
    assert parse(["a", " b "], "|") == ("a", "b")
    assert parse("", "|") == parse([], "|") == ()


def test_a_probability_of_one_half_gives_the_label():
    task = tasks.load("text_multilabel")
    edge = {"logits": np.array([[0.0, -1e-6, 1e-6]], dtype=np.float32)}
    assert task.decisions(edge).tolist() == [[1, 0, 1]]
    assert task.decode(edge, LABELS)[0]["labels"] == ["a", "c"]


def test_extreme_logits_give_finite_answers():
    extreme = {"logits": np.array([[1e4, -1e4, 0]], dtype=np.float32)}
    with np.errstate(all="raise", under="ignore"):
        for name in ALL:
            scores = tasks.load(name).decode(extreme, LABELS)[0]["scores"]
            assert scores["a"] == 1.0
            assert scores["b"] == 0.0


def test_tasks_load_without_heavy_packages():
    code = (
        "import sys; from tledge import plugins, tasks; [tasks.load(n) for n in plugins.names('tledge.tasks')]; "
        "heavy = {'torch', 'transformers', 'onnx', 'pydantic', 'sklearn'}; print(heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "set()\n")
