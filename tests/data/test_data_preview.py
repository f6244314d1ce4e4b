"""The guesses of `tledge init`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tledge import data
from tledge.errors import DataError

Rows = Callable[..., list[dict[str, Any]]]
Write = Callable[..., str]


def test_columns_are_guessed_by_what_they_hold(tmp_path: Path, rows: Rows, csv_file: Write) -> None:
    made = [
        {"id": i, "weight": i % 3 + 0.5, "said": row["text"], "mood": row["label"], "note": ""}
        for i, row in enumerate(rows(30))
    ]
    seen = data.preview(csv_file("t.csv", made), base=tmp_path)
    assert seen.columns == {"id": "integer", "weight": "number", "said": "text", "mood": "text", "note": "empty"}
    assert (seen.task, seen.input_columns[0], seen.label_column) == ("text_classification", "said", "mood")
    assert seen.labels == {"greet": 15, "leave": 15}
    assert (seen.n_rows, seen.n_broken) == (30, 0)
    assert seen.size_bytes == (tmp_path / "t.csv").stat().st_size


def test_telling_names_come_first(tmp_path: Path, jsonl_file: Write) -> None:
    made = [{"url": "https://example.com/" + "x" * i, "Text": f"t{i}", "day": i % 2, "label": i % 3} for i in range(30)]
    seen = data.preview(jsonl_file("t.jsonl", made), base=tmp_path)
    assert (seen.input_columns[0], seen.label_column) == ("Text", "label")
    assert seen.labels == {"0": 10, "1": 10, "2": 10}


@pytest.mark.parametrize("listed", [True, False])
def test_several_labels_are_seen(tmp_path: Path, rows: Rows, csv_file: Write, jsonl_file: Write, listed: bool) -> None:
    made = rows(40, (["a", "b"], ["a"])) if listed else rows(40, ("a|b", "a"))
    seen = data.preview(jsonl_file("t.jsonl", made) if listed else csv_file("t.csv", made), base=tmp_path)
    assert seen.task == "text_multilabel"
    assert seen.labels == {"a": 40, "b": 20}


def test_all_rows_are_counted_and_broken_ones_apart(tmp_path: Path, rows: Rows, csv_file: Write) -> None:
    csv_file("t.csv", rows(2500))
    with (tmp_path / "t.csv").open("a") as file:
        file.write("too few\n")
    seen = data.preview("t.csv", base=tmp_path)
    assert (seen.n_rows, seen.n_broken) == (2500, 1)
    assert seen.labels == {"greet": 1250, "leave": 1250}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n3,4\n", "no column looks like a text"),
        (
            "text,b\nx,1.5\ny,2.5\nz,3.5\n",
            "no column looks like a label, and 'b' holds numbers: to estimate them, give --task text_regression",
        ),
        ("text,label\na b,x\nc d,x\n", "the column 'label' holds 'x' alone; expected rows of two labels or more"),
        ("text,kind\na b,x\nbroken\n", "(1 of the rows that were read are broken: t.csv:3: expected 2 cells"),
        ("text,label\nbroken\n", "has no usable row: t.csv:2: expected 2 cells"),
    ],
)
def test_what_cannot_be_guessed_is_said(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError) as caught:
        data.preview("t.csv", base=tmp_path)
    assert said in str(caught.value)


@pytest.mark.parametrize("label", ["0.{}", "{}", "1,{}", "a free text of its own number {}"])
def test_what_differs_in_every_row_is_no_label_unless_it_is_asked_for(tmp_path: Path, label: str) -> None:
    lines = [f'a text that says {i} things,"{label.format(i)}"' for i in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["text,target", *lines]) + "\n")
    with pytest.raises(DataError, match="no column looks like a label"):
        data.preview("t.csv", base=tmp_path)
    assert data.preview("t.csv", base=tmp_path, task="text_classification").label_column == "target"


def test_two_texts_are_found_by_their_names_or_as_the_longest_ones(tmp_path: Path) -> None:
    for columns in ("premise,hypothesis,label", "first,second,label"):
        lines = [f"a text of row {i},another one of {i},{'ab'[i % 2]}" for i in range(20)]
        (tmp_path / "t.csv").write_text("\n".join([columns, *lines]) + "\n")
        seen = data.preview("t.csv", base=tmp_path, task="text_pair_classification")
        assert (*seen.input_columns, seen.label_column) == tuple(columns.split(","))
    (tmp_path / "t.csv").write_text("text,label\na b,x\nc d,y\ne f,x\n")
    with pytest.raises(DataError, match="no column looks like two texts"):
        data.preview("t.csv", base=tmp_path, task="text_pair_classification")


def test_lines_of_a_text_file_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("One line.\nAnother line.\n")
    with pytest.raises(DataError, match="no column looks like an image"):
        data.preview("book.txt", base=tmp_path, task="image_classification")


def test_numbers_are_labels_where_the_task_says_so(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,label\na b,1.0\nc d,2.0\ne f,1.0\n")
    seen = data.preview("t.csv", base=tmp_path, task="text_classification")
    assert (seen.label_column, seen.labels) == ("label", {"1.0": 2, "2.0": 1})


def test_a_text_file_is_for_a_language_model(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("One line.\nAnother line.\n", encoding="utf-8")
    seen = data.preview("book.txt", base=tmp_path)
    assert (seen.task, seen.input_columns[0], seen.label_column, seen.n_rows) == ("causal_lm", "text", "", 2)


def test_texts_of_a_table_are_for_a_language_model_when_it_is_asked_for(
    tmp_path: Path, rows: Rows, csv_file: Write
) -> None:
    seen = data.preview(csv_file("t.csv", rows(20)), base=tmp_path, task="causal_lm")
    assert (seen.task, seen.label_column, seen.labels, seen.n_rows) == ("causal_lm", "", {}, 20)


def test_numbers_with_decimal_commas_are_seen_and_kept_in_mind(tmp_path: Path) -> None:
    lines = [f"a long text number {i};{i},{i % 10}" for i in range(20)]
    (tmp_path / "t.csv").write_text("\n".join(["text;score", *lines]), encoding="utf-8")
    seen = data.preview("t.csv", base=tmp_path, task="text_regression")
    assert (seen.columns["score"], seen.label_column, seen.decimal) == ("number", "score", ",")
    with pytest.raises(DataError, match="'score' holds numbers"):
        data.preview("t.csv", base=tmp_path)
