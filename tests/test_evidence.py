"""What a report tells of the answers, against scikit-learn on rows made by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from tledge import data, evidence, tasks
from tledge.artifacts import read_json
from tledge.evidence import answers
from tledge.recipe import load_recipe

LABELS = ("cat", "dog", "emu", "fox")


class Rows:
    """A split of texts and label lists, as a data set gives them."""

    def __init__(self, labels):
        self._columns = {"label": labels, "text": [f"text {i}" for i in range(len(labels))]}

    def __getitem__(self, key):
        return self._columns[key] if isinstance(key, str) else {"text": self._columns["text"][key]}


def read(monkeypatch, tmp_path, kind, train, test, logits):
    (tmp_path / "quantize").mkdir()
    np.savez_compressed(tmp_path / "quantize" / "test_outputs.npz", logits=np.array(logits, np.float32))
    splits = SimpleNamespace(train=Rows(train), test=Rows(test))
    monkeypatch.setattr(data, "open_splits", lambda folder: splits)
    task = tasks.load(kind)
    return answers.read(task, task.METRIC, LABELS, tmp_path)


def test_single_label(monkeypatch, tmp_path):
    truth = [0, 0, 1, 1, 1, 2, 2, 0]
    given = [0, 1, 1, 1, 0, 2, 0, 0]
    logits = np.zeros((8, 4))
    logits[np.arange(8), given] = [3, 1, 3, 3, 4, 3, 2, 3]
    train = [[1]] * 5 + [[0]] * 3 + [[2]] + [[3]]
    found = read(monkeypatch, tmp_path, "text_classification", train, [[i] for i in truth], logits)
    assert found["baseline"]["accuracy"] == pytest.approx(3 / 8), "always `dog`, the most frequent training label"
    assert found["confusion"] == tuple(map(tuple, confusion_matrix(truth, given, labels=range(4))))
    precision, recall, f1, count = precision_recall_fscore_support(truth, given, labels=range(4), zero_division=np.nan)
    for i, score in enumerate(found["label_scores"][:3]):
        assert (score.label, score.count) == (LABELS[i], count[i])
        assert (score.precision, score.recall, score.f1) == pytest.approx((precision[i], recall[i], f1[i]))
    fox = found["label_scores"][3]
    assert (fox.precision, fox.recall, fox.f1, fox.count) == (None, None, None, 0)
    assert found["wrong_count"] == 3
    assert [(w.text, w.truth, w.predicted) for w in found["wrong"]] == [
        ("text 4", "dog", "cat"),
        ("text 6", "emu", "cat"),
        ("text 1", "cat", "dog"),
    ], "the surest mistake first"
    assert found["wrong"][0].score == pytest.approx(np.exp(4) / (np.exp(4) + 3))


def test_several_labels(monkeypatch, tmp_path):
    truth = [[0, 1], [1], [], [2], [0]]
    hits = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 0]])
    logits = np.where(hits == 1, 2.0, -2.0)
    logits[4, 1] = 5.0
    found = read(monkeypatch, tmp_path, "text_multilabel", [[1], [1], [0, 1], []], truth, logits)
    targets = np.array([[i in row for i in range(4)] for row in truth]).astype(int)
    always = np.tile([0, 1, 0, 0], (5, 1))
    assert found["baseline"]["micro_f1"] == pytest.approx(f1_score(targets, always, average="micro", zero_division=0))
    assert found["confusion"] == ()
    expected = precision_recall_fscore_support(targets, hits, zero_division=np.nan)
    for i, score in enumerate(found["label_scores"]):
        got = [np.nan if x is None else x for x in (score.precision, score.recall, score.f1)]
        np.testing.assert_allclose(got, [expected[k][i] for k in range(3)])
        assert score.count == expected[3][i]
    assert found["wrong_count"] == 3
    assert [(w.text, w.truth, w.predicted) for w in found["wrong"]] == [
        ("text 4", "cat", "cat, dog"),
        ("text 2", "", "emu"),
        ("text 3", "emu", ""),
    ]


def test_only_the_first_mistakes_are_shown(monkeypatch, tmp_path):
    logits = np.tile([2.0, 0, 0, 0], (30, 1))
    found = read(monkeypatch, tmp_path, "text_classification", [[0], [1]], [[1]] * 30, logits)
    assert found["wrong_count"] == 30
    assert len(found["wrong"]) == answers.WRONG_SHOWN["text"]


def test_facts_of_a_run(finished):
    facts = evidence.facts(load_recipe(finished.run / "recipe.yaml"), finished.run)
    chosen = next(v for v in facts.variants if v.chosen)
    rows = read_json(finished.run / "data" / "data.json")["rows"]["test"]
    assert sum(map(sum, facts.confusion)) == rows
    assert sum(facts.confusion[i][i] for i in range(3)) / rows == pytest.approx(chosen.test_metrics["accuracy"])
    assert facts.wrong_count == rows - sum(facts.confusion[i][i] for i in range(3))
    assert facts.baseline["accuracy"] == pytest.approx(1 / 3)
    assert facts.bench is not None
    assert [point.epoch for point in facts.training.curve] == [1, 2, 3, 4, 5, 6]
    assert all(seconds > 0 for seconds in facts.stage_seconds.values())
