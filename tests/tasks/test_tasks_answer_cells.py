"""Answers as files hold them, and those that are not where they are said to be."""

import re

import numpy as np
import pytest

from tledge.tasks import question_answering as task

CONTEXT = "Denver 😀 lies west of Kansas City; Kansas is flat. 北京在中国。"


def parse(cell, context=CONTEXT):
    return task.parse_label(cell, "|", ".", ("Where?", context))


@pytest.mark.parametrize(
    "cell",
    [
        {"text": ["lies west"], "answer_start": [9]},
        {"text": ["lies west", "lies west"], "answer_start": [9, 9]},
        {"text": "lies west", "answer_start": 9},
        {"text": "lies west", "start": "9"},
        [{"text": "lies west", "answer_start": 9, "answer_id": 3}],
        '{"text": ["lies west"], "answer_start": [9]}',
        '[{"text": "lies west", "answer_start": 9}]',
        "lies west",
        ["lies west"],
        {"text": ["lies west"]},
    ],
)
def test_every_way_to_write_an_answer_gives_the_same(cell):
    ((text, start, is_moved),) = parse(cell)
    assert (text, start, is_moved) == ("lies west", 9, False)


@pytest.mark.parametrize("cell", [{"text": [], "answer_start": []}, [], "", "[]", {"text": [""], "answer_start": [-1]}])
def test_a_question_may_have_no_answer(cell):
    assert parse(cell) == ()


def test_several_right_answers_keep_their_order():
    found = parse({"text": ["Kansas", "Kansas City", "Denver"], "answer_start": [35, 22, 0]})
    assert [each[:2] for each in found] == [("Kansas", 35), ("Kansas City", 22), ("Denver", 0)]
    assert all(CONTEXT[a.start : a.start + len(a.text)] == a.text for a in found)


def test_an_answer_elsewhere_is_put_where_the_context_has_it_if_that_is_clear():
    (found,) = parse({"text": ["北京"], "answer_start": [3]})
    assert (found.start, found.is_moved) == (CONTEXT.index("北京"), True)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ({"text": ["Kansas"], "answer_start": [0]}, "'Kansas' has place 0, and the context has it 2 times"),
        ({"text": ["Kansas"], "answer_start": [-1]}, "'Kansas' has place -1, and the context has it 2 times"),
        ("Kansas", "'Kansas' has no place for it, and the context has it 2 times"),
        ({"text": ["Paris"], "answer_start": [0]}, "and the context does not have it"),
        ({"text": ["denver"], "answer_start": [0]}, "and the context does not have it"),
        ({"text": ["a", "b"], "answer_start": [1]}, "as many places as answers; there are 1 and 2"),
        ({"text": [3], "answer_start": [1]}, "answers of text; one is 3"),
        (
            {"text": ["Denver"], "answer_start": ["early"]},
            "places that are whole numbers of characters; one is 'early'",
        ),
        ({"text": ["Denver"], "answer_start": [0.0]}, "whole numbers of characters; one is 0.0"),
        ({"text": ["Denver"], "answer_start": 0}, 'answers such as {"text"'),
        ({"answer": "Denver"}, 'answers such as {"text"'),
        ([["Denver", 0]], 'answers such as {"text"'),
        (None, 'answers such as {"text"'),
        (float("nan"), 'answers such as {"text"'),
        (7, 'answers such as {"text"'),
    ],
)
def test_what_is_no_answer_is_said(cell, expected):
    with pytest.raises(ValueError, match=re.escape(expected)):
        parse(cell)


def test_overlapping_places_are_not_clear():
    with pytest.raises(ValueError, match="place 5"):
        parse({"text": ["aa"], "answer_start": [5]}, "baaab")


def test_targets_give_back_place_and_text():
    rows = [
        {"text": ["Kansas City", "Denver"], "answer_start": [22, 0]},
        {"text": [], "answer_start": []},
        {"text": ["北京"], "answer_start": [CONTEXT.index("北京")]},
    ]
    numbers = [task.numbered(parse(row), ["answer"]) for row in rows]
    targets = task.targets(numbers, 1)
    assert targets.dtype == np.int32
    assert targets.shape == (3, 2, 2 + len("Kansas City"))
    read = [
        [("".join(map(chr, answer[2 : 2 + answer[1]])), int(answer[0])) for answer in row if answer[0] >= 0]
        for row in targets
    ]
    assert read == [[("Kansas City", 22), ("Denver", 0)], [], [("北京", CONTEXT.index("北京"))]]
    assert task.targets([], 1).shape == (0, 1, 2)
