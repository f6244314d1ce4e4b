"""A column of 0 and 1 for each label: `data.label_columns`, and the look that finds them."""

from __future__ import annotations

import itertools

import pytest

from tledge.data import preview
from tledge.errors import RecipeError
from tledge.recipe import load_recipe

FLAGS = ("toxic", "obscene", "threat")
MULTI = "text_multilabel"


def table(of=(("0", "1"), ("0.0", "1.0"), ("false", "True"))):
    """Ninety rows with every combination of labels."""
    combinations = list(itertools.product((0, 1), repeat=3))
    rows = [
        (f"id{i}", f"comment number {i}", *(of[k][on] for k, on in enumerate(combinations[i % 8]))) for i in range(90)
    ]
    return "\n".join([",".join(("id", "comment_text", *FLAGS)), *map(",".join, rows)]) + "\n"


def test_each_row_has_the_labels_whose_column_is_one(write, run):
    write("rows.csv", table())
    splits = run(task=MULTI, columns={"text": "comment_text"}, label_columns=list(FLAGS))
    assert splits.labels == ("obscene", "threat", "toxic")
    for part in (splits.train, splits.validation, splits.test):
        for row in part:
            on = list(itertools.product((0, 1), repeat=3))[int(row["text"].split()[-1]) % 8]
            assert {splits.labels[i] for i in row["label"]} == {
                name for name, flag in zip(FLAGS, on, strict=True) if flag
            }
    assert sum(splits.report.rows.values()) == 90, "rows without any label too"


def test_a_cell_that_is_neither_and_a_column_that_is_not_there(write, complaint):
    write("rows.csv", "text,a,b\none,0,2\n")
    assert complaint(task=MULTI, label_columns=["a", "b"]).startswith(
        "rows.csv:2: the column 'b' holds '2', expected 0 or 1; mend the row"
    )
    assert complaint(task=MULTI, label_columns=["a", "bb"]) == (
        "data.label_columns: rows.csv has no column 'bb'; its columns are 'text', 'a', 'b'; did you mean 'b'?"
    )


def test_the_look_finds_them_unless_a_label_is_named(write, tmp_path):
    seen = preview(write("rows.csv", table()), base=tmp_path)
    assert (seen.task, seen.input_columns[0], seen.label_columns) == (MULTI, "comment_text", FLAGS)
    assert seen.labels == {"toxic": 44, "obscene": 44, "threat": 45}
    named = table().replace("id,", "label,").replace("id0,", "x,")
    for i in range(90):
        named = named.replace(f"id{i},", f"{'xy'[i % 2]},")
    seen = preview(write("named.csv", named), base=tmp_path)
    assert (seen.task, seen.label_column, seen.label_columns) == ("text_classification", "label", ())
    seen = preview(write("flag.csv", table().replace("toxic,", "label,", 1)), base=tmp_path)
    assert (seen.task, seen.label_column, seen.label_columns) == ("text_classification", "label", ()), "0 and 1 too"


@pytest.mark.parametrize(
    ("task", "more", "line"),
    [
        (
            "text_classification",
            "",
            "data.label_columns: is for several labels a row, and the task is text_classification; set task",
        ),
        (MULTI, ", columns: {label: c}", "data.label_columns: data.columns.label names another column of labels"),
    ],
)
def test_what_does_not_go_with_them(task, more, line, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        f"name: a\ntask: {task}\ndata: {{train: a.csv, label_columns: [a, b]{more}}}\nmodel: {{backbone: b}}\n"
    )
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert line in str(error.value)
