"""What the answers of a model are worth, and when it had better give none."""

import itertools

import numpy as np
import pytest

from tledge.tasks import question_answering as task
from tledge.tasks._answer_text import best
from tledge.tasks._answers import pick_threshold

TRUTHS = [("Denver", "Denver, Colorado"), (), ("in 1999",), (), ("the plains",)]


def targets(rows):
    return task.targets([[n for text in row for n in (0, len(text), *map(ord, text))] for row in rows], 1)


def records(answers, margins=None):
    longest = max(1, *map(len, answers))
    characters = np.full((len(answers), longest), -1, np.int32)
    for target, answer in zip(characters, answers, strict=True):
        target[: len(answer)] = [ord(c) for c in answer]
    places = np.asarray([0 if answer else -1 for answer in answers])
    return {
        "answer": characters, "start": places, "end": places + np.asarray([len(a) for a in answers]),
        "score": np.ones(len(answers)), "margin": np.asarray(margins or [0.0] * len(answers)),
    }  # fmt: skip


def test_metrics_are_means_over_questions_and_tell_those_without_an_answer_apart():
    given = ["denver", "", "1999", "something", ""]
    expected = [best(answer, truth) for answer, truth in zip(given, TRUTHS, strict=True)]
    found = task.score(records(given), targets(TRUTHS))
    assert found["exact_match"] == pytest.approx(np.mean([each[0] for each in expected])) == pytest.approx(2 / 5)
    assert found["f1"] == pytest.approx(np.mean([each[1] for each in expected]))
    assert found["no_answer_accuracy"] == 0.5
    assert found["exact_match_answerable"] == pytest.approx(1 / 3)
    assert found["f1_answerable"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert set(task.score(records(given[:1]), targets(TRUTHS[:1]))) == {"f1", "exact_match"}
    assert set(task.score(records([""]), targets([()]))) == {"f1", "exact_match", "no_answer_accuracy"}


def test_rows_of_other_widths_are_worth_the_same():
    given = ["denver", "", "1999"]
    wide = {**records(given), "answer": np.pad(records(given)["answer"], [(0, 0), (0, 9)], constant_values=-1)}
    padded = np.pad(targets(TRUTHS[:3]), [(0, 0), (0, 2), (0, 50)], constant_values=-1)
    assert task.score(wide, padded) == task.score(records(given), targets(TRUTHS[:3]))


def test_the_threshold_is_the_best_of_all():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(2, 9))
        truths = [("yes",) if i == 0 or rng.random() < 0.5 else () for i in range(n - 1)] + [()]
        spans = ["yes" if rng.random() < 0.7 else "yes and more" for _ in range(n)]
        margins = np.round(rng.normal(size=n) * 3, int(rng.integers(0, 3))).tolist()
        threshold = pick_threshold(records(spans, margins), targets(truths))

        def f1_at(value, spans=spans, truths=truths, margins=margins):
            given = ["" if margin > value else span for span, margin in zip(spans, margins, strict=True)]
            return np.mean([best(answer, truth)[1] for answer, truth in zip(given, truths, strict=True)])

        edges = sorted(set(margins))
        places = [edges[0] - 1, *((a + b) / 2 for a, b in itertools.pairwise(edges)), edges[-1] + 1]
        assert f1_at(threshold) == pytest.approx(max(map(f1_at, places)))


@pytest.mark.parametrize("truths", [[("yes",)] * 3, [()] * 3])
def test_there_is_no_threshold_without_both_kinds_of_questions(truths):
    assert pick_threshold(records(["yes"] * 3, [1.0, 2.0, 3.0]), targets(truths)) is None


def test_a_row_without_an_answer_is_what_most_frequent_gives():
    one = task.most_frequent(targets(TRUTHS), 1)
    every = {name: np.repeat(array[None], len(TRUTHS), axis=0) for name, array in one.items()}
    assert task.score(every, targets(TRUTHS))["exact_match"] == pytest.approx(2 / 5)


def test_two_models_agree_on_a_part_of_the_context():
    ours, theirs = records(["a", "", "a", ""]), records(["a", "", "", "a"])
    assert task.agree(ours, theirs).tolist() == [True, True, False, False]
