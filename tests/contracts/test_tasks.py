"""Every task on disk is held to the table in `tledge.tasks`."""

import inspect
import json
import re
import subprocess
import sys
import typing

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tledge import losses, plugins, tasks
from tledge.data import labels as data_labels

ALL = plugins.names("tledge.tasks")
LABELS = ("a", "b", "c")
LOGITS = np.array([[9, -9, -9], [-9, 9, -9], [-9, 9, 8], [-2, -1, -3]], dtype=np.float32)
NUMBERS = np.array([[-3.5], [0.25], [7], [2]], dtype=np.float32)
ROWS = {
    "one_label": ([[0], [1], [1], [1]], [[2], [2], [0], [0]]),
    "several_labels": ([[0], [1], [1, 2], []], [[2], [2], [0], [0]]),
    "number": ([[-3.5], [0.25], [7.0], [2.0]], [[7.0], [2.0], [-3.5], [0.25]]),
}
"""What is right and what is wrong for the outputs above, by what is told of an input."""
WITH_LABEL = [name for name in ALL if tasks.load(name).LABELS in ROWS]
LABELLED = [name for name in WITH_LABEL if tasks.load(name).LABELS != "number"]


def outputs(name):
    return {"logits": LOGITS if name in LABELLED else NUMBERS}


def labels(name):
    return LABELS if name in LABELLED else ("price",)


def targets(name, *, wrong=False):
    return tasks.load(name).targets(ROWS[tasks.load(name).LABELS][wrong], len(labels(name)))


def test_the_tasks_are_found():
    assert {"causal_lm", "image_multilabel", "text_classification", "text_pair_regression"} < set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_holds_what_the_package_documents(name):
    task = tasks.load(name)
    documented = re.findall(r"^`(\w+)`", tasks.__doc__, re.MULTILINE)
    attributes = inspect.get_annotations(tasks.Task, eval_str=True)
    functions = [name for name in vars(tasks.Task) if not name.startswith("_") and name not in attributes]
    assert sorted(documented) == sorted([*attributes, *functions])
    for attribute, kind in attributes.items():
        assert isinstance(getattr(task, attribute), typing.get_origin(kind) or kind)
    for function in functions:
        ours, theirs = getattr(task, function), getattr(tasks.Task, function)
        assert ours.__doc__
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


@pytest.mark.parametrize("name", ALL)
def test_names_a_metric_losses_and_a_problem_type_that_exist(name):
    task = tasks.load(name)
    for package in ("tledge.inputs", "tledge.data.inputs", "tledge.evidence.inputs", "tledge.stages.inputs"):
        assert task.INPUT in plugins.names(package)
    for package in ("tledge.data.labels", "tledge.evidence.labels"):
        assert task.LABELS in plugins.names(package)
    assert set(task.SCHEMES) <= set(plugins.names("tledge.quantize.schemes"))
    assert set(task.METRICS.values()) <= {tasks.HIGHER, tasks.LOWER}
    assert bool(task.LABEL_COLUMN) == bool(data_labels.load(task.LABELS).MISSING)
    assert task.METRIC in task.METRICS
    assert task.LOSS in task.LOSSES
    packages = (losses.__name__, "tledge.losses.embedding", "tledge.losses.detectors")
    assert set(task.LOSSES) <= {loss for package in packages for loss in plugins.names(package)}
    assert task.ROWS in plugins.names("tledge.stages.rows")
    assert task.HEAD in plugins.names("tledge.stages.heads")
    assert task.RUN in plugins.names("tledge.stages.runs")
    assert task.PROBLEM_TYPE in {
        "single_label_classification", "multi_label_classification", "regression", "causal_lm", "token_classification",
        "masked_lm", "question_answering", "text_embedding", "object_detection",
    }  # fmt: skip


@pytest.mark.parametrize("name", LABELLED)
def test_decode_decisions_and_score_agree_on_rows_and_labels(name):
    task, right = tasks.load(name), targets(name)
    answers, predictions = task.decode(outputs(name), LABELS), task.predictions(outputs(name))
    assert len(answers) == len(predictions) == len(right) == len(LOGITS)
    assert predictions.shape == right.shape
    assert predictions.dtype == np.int64
    assert json.loads(json.dumps(answers)) == answers
    np.testing.assert_array_equal(predictions, right)
    np.testing.assert_array_equal(task.records(outputs(name), {})["logits"], outputs(name)["logits"])
    assert task.agree(outputs(name), outputs(name)).tolist() == [True] * len(LOGITS)
    assert task.agree(outputs(name), {"logits": LOGITS[::-1]}).tolist() == [
        bool(np.all(predictions[i] == predictions[-1 - i])) for i in range(len(LOGITS))
    ]
    for answer, row in zip(answers, ROWS[tasks.load(name).LABELS][0], strict=True):
        assert list(answer["scores"]) == list(LABELS)
        assert all(0 <= p <= 1 for p in answer["scores"].values())
        named = answer["labels"] if "labels" in answer else [answer["label"]]
        assert named == [LABELS[i] for i in row]


@pytest.mark.parametrize("name", [name for name in WITH_LABEL if name not in LABELLED])
def test_a_number_is_given_as_it_is_and_decides_nothing(name):
    task = tasks.load(name)
    answers = task.decode(outputs(name), ("price",))
    assert json.loads(json.dumps(answers)) == answers
    assert [answer["value"] for answer in answers] == [-3.5, 0.25, 7.0, 2.0]
    assert task.predictions(outputs(name)) is None
    assert targets(name).dtype == np.float32
    assert targets(name).shape == (4,)


@pytest.mark.parametrize("name", WITH_LABEL)
def test_score_is_best_for_right_answers_and_falls_with_wrong_ones(name):
    task = tasks.load(name)
    scores = task.score(outputs(name), targets(name))
    assert set(task.METRICS) <= set(scores)
    assert all(type(value) is float for value in scores.values())
    assert scores[task.METRIC] == 1.0
    worse = task.score(outputs(name), targets(name, wrong=True))
    assert worse[task.METRIC] < 0.5
    for metric in task.METRICS:
        assert (worse[metric] > scores[metric]) == tasks.lower_is_better(task, metric)


@pytest.mark.parametrize("name", WITH_LABEL)
def test_half_precision_outputs_are_scored_like_full(name):
    task, full = tasks.load(name), outputs(name)
    half = {"logits": full["logits"].astype(np.float16)}
    assert task.score(half, targets(name)) == pytest.approx(task.score(full, targets(name)))


@pytest.mark.parametrize("n_labels", [2, 4])
def test_roc_auc_is_of_the_second_of_two_labels_and_else_the_mean_over_labels(n_labels):
    rng = np.random.default_rng(5)
    truth = rng.integers(0, n_labels, 90)
    logits = rng.normal(size=(90, n_labels)).astype(np.float32) + np.eye(n_labels, dtype=np.float32)[truth]
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    expected = roc_auc_score(truth, p[:, 1] if n_labels == 2 else p, multi_class="ovr")
    scores = tasks.load("image_classification").score({"logits": logits}, truth)
    assert scores["roc_auc"] == pytest.approx(expected)
    assert 0.5 < scores["roc_auc"] < 1


def test_a_metric_that_rows_of_one_kind_cannot_have_is_left_out():
    single, number = tasks.load("image_classification"), tasks.load("text_regression")
    for label in range(3):
        scores = single.score({"logits": LOGITS}, np.full(4, label))
        assert "roc_auc" not in scores
        assert {"accuracy", "balanced_accuracy", "macro_f1", "log_loss"} == set(scores)
    scores = number.score({"logits": NUMBERS}, np.full(4, 0.1, np.float32))
    assert set(scores) == {"pearson", "spearman", "mae", "rmse"}
    assert scores["pearson"] == 0.0


def test_errors_of_estimates_are_in_the_targets_unit():
    scores = tasks.load("image_regression").score(
        {"logits": np.array([[1.0], [2.0], [6.0]], np.float32)}, np.array([1, 2, 3], np.float32)
    )
    assert scores["mae"] == pytest.approx(1)
    assert scores["rmse"] == pytest.approx(3**0.5)
    assert scores["r2"] == pytest.approx(1 - 9 / 2)


def test_parse_label_of_one_label():
    parse = tasks.load("text_classification").parse_label
    assert parse("  good ", "|", ".") == ("good",)
    assert parse("a|b", "|", ".") == ("a|b",)
    assert parse(3, "|", ".") == ("3",)
    assert parse("  ", "|", ".") == ()


def test_parse_label_of_several_labels():
    parse = tasks.load("text_multilabel").parse_label
    assert parse("a | b|a|", "|", ".") == ("a", "b")
    assert parse("a,b", ",", ".") == ("a", "b")
    assert parse(["a", " b "], "|", ".") == ("a", "b")
    assert parse("", "|", ".") == parse([], "|", ".") == ()


def test_parse_label_of_a_number():
    parse = tasks.load("text_regression").parse_label
    assert parse(" 3.50 ", "|", ".") == ("3.50",)
    assert parse(-2e-3, "|", ".") == ("-0.002",)
    assert parse("  ", "|", ".") == ()
    for bad in ("many", "nan", "inf", "1|2"):
        with pytest.raises(ValueError, match="a finite number"):
            parse(bad, "|", ".")


def test_a_probability_of_one_half_gives_the_label():
    task = tasks.load("text_multilabel")
    edge = {"logits": np.array([[0.0, -1e-6, 1e-6]], dtype=np.float32)}
    assert task.predictions(edge).tolist() == [[1, 0, 1]]
    assert task.decode(edge, LABELS)[0]["labels"] == ["a", "c"]


def test_extreme_logits_give_finite_answers():
    extreme = {"logits": np.array([[1e4, -1e4, 0]], dtype=np.float32)}
    with np.errstate(all="raise", under="ignore"):
        for name in LABELLED:
            scores = tasks.load(name).decode(extreme, LABELS)[0]["scores"]
            assert scores["a"] == 1.0
            assert scores["b"] == 0.0


BLOCKS = [[0, 2, 1, 1], [1, 0, 0, 2]]
"""Blocks of four tokens out of three."""


def next_token_logits(blocks, confidence=9):
    """Logits that are sure of each next token; what comes after a block is said to be token 2."""
    following = np.array([[*block[1:], 2] for block in blocks])
    return (np.eye(3)[following] * confidence).astype(np.float32)


def test_a_language_model_is_scored_by_the_tokens_that_follow():
    task = tasks.load("causal_lm")
    targets, logits = task.targets(BLOCKS, 3), next_token_logits(BLOCKS)
    assert targets.shape == (2, 4)
    inputs = {"input_ids": targets, "bytes_per_token": np.full(2, 3.0)}
    records = task.records({"logits": logits}, inputs)
    assert {name: array.shape for name, array in records.items()} == {
        "token_losses": (2, 3), "tokens": (2, 3), "bytes_per_token": (2,),
    }  # fmt: skip
    right = task.score(records, targets)
    assert right["bits_per_byte"] == pytest.approx(right["loss"] / np.log(2) / 3)
    one = -np.log(np.exp(9) / (np.exp(9) + 2))
    assert right["loss"] == pytest.approx(one)
    assert right["perplexity"] == pytest.approx(np.exp(one))
    assert right["next_token_accuracy"] == 1.0
    others = task.records({"logits": next_token_logits(BLOCKS[::-1])}, inputs)
    np.testing.assert_array_equal(task.agree(records, others), np.array(BLOCKS)[:, 1:] == np.array(BLOCKS[::-1])[:, 1:])
    wrong = task.score(others, targets)
    assert wrong["loss"] > 9 * np.mean(np.array(BLOCKS)[:, 1:] != np.array(BLOCKS[::-1])[:, 1:])
    assert wrong["perplexity"] > right["perplexity"]
    assert wrong["next_token_accuracy"] < 1
    half = task.score(task.records({"logits": logits.astype(np.float16)}, inputs), targets)
    assert half == pytest.approx(right)


def test_a_language_models_losses_serve_where_its_logits_would_fill_the_memory():
    task = tasks.load("causal_lm")
    scores = task.score({"token_losses": np.array([[1, 2, 3], [4, 5, 6]], np.float32)}, np.array(BLOCKS))
    assert scores == {"loss": 3.5, "perplexity": pytest.approx(np.exp(3.5))}
    assert task.metrics_of(1e6)["perplexity"] == np.inf


def test_a_language_model_decides_for_the_next_token_and_has_no_labels():
    task = tasks.load("causal_lm")
    outputs = {"logits": next_token_logits(BLOCKS)}
    records = task.records(outputs, {"input_ids": np.array(BLOCKS)})
    np.testing.assert_array_equal(task.predictions(records), np.array(BLOCKS)[:, 1:])
    answers = task.decode(outputs, LABELS)
    assert [answer["token"] for answer in answers] == ["c", "c"]
    assert answers[0]["score"] == pytest.approx(np.exp(9) / (np.exp(9) + 2))
    assert json.loads(json.dumps(answers)) == answers
    assert task.parse_label("anything", "|", ".") == ()


def test_which_metrics_are_better_when_lower():
    for name, metric in (("causal_lm", "perplexity"), ("text_classification", "log_loss"), ("image_regression", "mae")):
        assert tasks.lower_is_better(tasks.load(name), metric)
    for name, metric in (("causal_lm", "next_token_accuracy"), ("text_classification", "accuracy")):
        assert not tasks.lower_is_better(tasks.load(name), metric)


def test_tasks_load_without_heavy_packages():
    code = (
        "import sys; from tledge import plugins, tasks; [tasks.load(n) for n in plugins.names('tledge.tasks')]; "
        "heavy = {'torch', 'transformers', 'onnx', 'pydantic', 'sklearn'}; print(heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "set()\n")
