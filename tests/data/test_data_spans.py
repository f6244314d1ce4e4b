"""Rows with spans: CoNLL files, lists of tokens with tags, and texts with spans."""

import json

import pytest

from tledge import data, tasks
from tledge.errors import DataError
from tledge.recipe.schema import Data

TASK = tasks.load("token_classification")
CONLL = """\
-DOCSTART- -X- O

# text: a longer comment
Ann NNP B-per
Lee NNP I-per
sings VB O

# O O
Rome NNP B-loc
\t
. . O
we PRP O
"""


def read(tmp_path, name, content, **settings):
    (tmp_path / name).write_text(content, encoding="utf-8")
    recipe = Data(train=name, validation=settings.pop("validation", name), test=name, on_overlap="drop", **settings)
    return data.load(recipe, TASK, seed=0, folder=tmp_path / "data", base=tmp_path)


def rows_of(splits):
    """Texts of the test split with the characters of their spans."""
    return [
        (row["text"], [(splits.labels[n], row["text"][a:b]) for n, a, b in zip(*[iter(row["label"])] * 3, strict=True)])
        for row in splits.test
    ]


def test_a_conll_file_gives_texts_and_spans(tmp_path):
    train = CONLL + "\nBob N B-per\n\nOslo N B-loc\n"
    (tmp_path / "train.conll").write_text(train, encoding="utf-8")
    (tmp_path / "test.conll").write_text(CONLL, encoding="utf-8")
    recipe = Data(
        train="train.conll", validation="test.conll", test="test.conll", on_overlap="drop",
        columns={"text": "tokens", "label": "tags"},
    )  # fmt: skip
    with pytest.raises(DataError, match=r"no row of test\.conll is left for validation"):
        data.load(recipe, TASK, seed=0, folder=tmp_path / "data", base=tmp_path)
    recipe = recipe.model_copy(update={"validation": "validation.conll"})
    (tmp_path / "validation.conll").write_text("Eve N B-per\n", encoding="utf-8")
    splits = data.load(recipe, TASK, seed=0, folder=tmp_path / "data", base=tmp_path)
    assert splits.labels == ("loc", "per")
    assert rows_of(splits) == [
        ("Ann Lee sings", [("per", "Ann Lee")]), ("# Rome", [("loc", "Rome")]), (". we", []),
    ]  # fmt: skip
    assert [row["text"] for row in splits.train] == ["Bob", "Oslo"]
    assert [row["row"] for row in splits.test] == ["test.conll:4", "test.conll:8", "test.conll:11"]
    assert splits.report.label_counts["test"] == {"loc": 1, "per": 1}


def test_any_column_may_hold_the_tags_and_iob1_is_understood(tmp_path):
    lines = "a\tI-x\tO\nb\tI-x\tO\nc\tB-x\tO\nd\tI-y\tO\n\ne\tO\tO\n\nf\tI-y\tO\ng\tI-x\tO\n"
    (tmp_path / "other.iob").write_text("h\tI-x\tO\ni\tI-y\tO\n\nj\tI-y\tO\n", encoding="utf-8")
    (tmp_path / "validation.iob").write_text("k\tI-x\tO\n", encoding="utf-8")
    (tmp_path / "rows.iob").write_text(lines, encoding="utf-8")
    recipe = Data(
        train="other.iob", validation="validation.iob", test="rows.iob", columns={"text": "column1", "label": "column2"}
    )
    splits = data.load(recipe, TASK, seed=0, folder=tmp_path / "data", base=tmp_path)
    assert rows_of(splits) == [
        ("a b c d", [("x", "a b"), ("x", "c"), ("y", "d")]), ("e", []), ("f g", [("y", "f"), ("x", "g")]),
    ]  # fmt: skip


def test_chinese_tokens_are_joined_without_spaces(tmp_path):
    rows = [
        {"tokens": list("我在北京工作"), "tags": ["O", "O", "B-loc", "I-loc", "O", "O"]},
        {"tokens": list("上海好"), "tags": ["B-loc", "I-loc", "O"]},
        {"tokens": list("他去广州"), "tags": ["O", "O", "B-loc", "I-loc"]},
    ]
    for name, row in zip(("train", "validation", "test"), rows, strict=True):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    recipe = Data(
        train="train.jsonl", validation="validation.jsonl", test="test.jsonl",
        columns={"text": "tokens", "label": "tags"},
    )  # fmt: skip
    splits = data.load(recipe, TASK, seed=0, folder=tmp_path / "data", base=tmp_path)
    assert rows_of(splits) == [("他去广州", [("loc", "广州")])]
    assert splits.train[0]["text"] == "我在北京工作"


def texts_with_spans(tmp_path, *rows, on_error="fail", names=None):
    usual = [{"text": f"Ann met Bob {i}", "label": [[0, 3, "per"], [8, 11, "per"]]} for i in range(20)]
    lines = "\n".join(map(json.dumps, [*usual, *rows]))
    (tmp_path / "rows.jsonl").write_text(lines + "\n", encoding="utf-8")
    settings = {} if names is None else {"label_names": names}
    recipe = Data(train="rows.jsonl", on_error=on_error, **settings)
    return data.load(recipe, TASK, seed=0, folder=tmp_path / "data", base=tmp_path)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            {"text": "Ann", "label": [[0, 4, "per"]]},
            "spans inside the text's 3 characters; 'per' is from 0 to 4",
        ),
        (
            {"text": "Ann B", "label": [[0, 3, "a"], [2, 5, "b"]]},
            "spans that do not overlap; a 'Ann' and b 'n B' do",
        ),
        ({"text": ["a", "b"], "label": ["O"]}, "expected as many tags as tokens, 2; there are 1"),
        (
            {"text": ["a", "b"], "label": ["O", "I-x"]},
            "'I-x' of token 2 continues no span of 'x'",
        ),
        ({"text": ["a", 7], "label": ["O", "O"]}, "the column 'text' has the token 7, expected text"),
        ({"text": "", "label": []}, "the column 'text' is empty"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_or_counted(row, told, tmp_path):
    with pytest.raises(DataError) as refused:
        texts_with_spans(tmp_path, row)
    assert str(refused.value).startswith("rows.jsonl:21: ")
    assert told in str(refused.value)
    splits = texts_with_spans(tmp_path, row, on_error="skip")
    assert sum(splits.report.skipped.values()) == 1


def test_one_label_is_enough_and_may_have_another_name(tmp_path):
    splits = texts_with_spans(tmp_path, {"text": "nobody here", "label": []}, names={"per": "person"})
    assert splits.labels == ("person",)
    assert sum(sum(of.values()) for of in splits.report.label_counts.values()) == 20  # rows, not spans


def test_an_unknown_label_of_a_file_that_is_held_out_is_an_error(tmp_path):
    (tmp_path / "test.jsonl").write_text(json.dumps({"text": "in Rome", "label": [[3, 7, "loc"]]}) + "\n")
    (tmp_path / "rows.jsonl").write_text(
        "\n".join(json.dumps({"text": f"Ann {i}", "label": [[0, 3, "per"]]}) for i in range(9)) + "\n"
    )
    recipe = Data(train="rows.jsonl", test="test.jsonl")
    with pytest.raises(DataError, match="the label 'loc' is not known; known are 'per'"):
        data.load(recipe, TASK, seed=0, folder=tmp_path / "data", base=tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("\n\n# x\n", "has no token in its first lines"),
        ("a O\nb\n", "rows.conll:2: 1 columns, expected 2 as in the lines before"),
        ("a\tO\nb\tO\n\n\tO\n", "rows.conll:4: a column without anything in it"),
    ],
)
def test_a_conll_file_that_is_none_is_refused(content, told, tmp_path):
    (tmp_path / "rows.conll").write_text(content, encoding="utf-8")
    recipe = Data(train="rows.conll", columns={"text": "tokens", "label": "tags"})
    with pytest.raises(DataError, match=told):
        data.load(recipe, TASK, seed=0, folder=tmp_path / "data", base=tmp_path)
