"""Regression: numbers instead of labels, and splits that have the large and the small ones alike."""

from __future__ import annotations

import datasets
import numpy as np
import pytest
from labelled_rows import as_csv
from pictures import all_rows, save_paths

TASK = "text_regression"


def numbered(values):
    """Different texts with these numbers."""
    return as_csv([(f"text number {i}", value) for i, value in enumerate(values)], ("text", "price"))


COLUMNS = {"label": "price"}


def test_numbers_are_kept_as_they_are(write, run):
    values = [i / 7 - 3 for i in range(60)]
    write("rows.csv", numbered(values))
    splits = run(task=TASK, columns=COLUMNS, calibration=5)
    assert splits.labels == ("price",) == splits.report.labels
    assert splits.train.features["label"] == datasets.List(datasets.Value("float64"))
    assert {row["text"]: row["label"] for row in all_rows(splits)} == {
        f"text number {i}": [value] for i, value in enumerate(values)
    }
    assert splits.report.label_counts == {name: {"price": n} for name, n in splits.report.rows.items()}


def test_each_split_has_its_share_of_each_tenth(write, run):
    values = np.random.default_rng(3).lognormal(size=400).round(4)
    write("rows.csv", numbered(values))
    splits = run(task=TASK, columns=COLUMNS, calibration=40)
    edges = np.quantile(values, np.linspace(0, 1, 11)[1:-1])
    for name, count in splits.report.rows.items():
        own = np.concatenate(getattr(splits, name)["label"][:])
        tenths = np.bincount(np.searchsorted(edges, own, side="right"), minlength=10)
        assert np.abs(tenths - count / 10).max() <= 2, (name, tenths)
        quantiles = splits.report.target_quantiles[name]
        assert (quantiles["p0"], quantiles["p100"]) == (own.min(), own.max())
        assert own.min() <= quantiles["p50"] <= own.max()


@pytest.mark.parametrize("values", [[0, 1 / 3, 2 / 3, 1] * 10, [1] + [0] * 39, range(40), [5, *range(5)] * 3])
@pytest.mark.parametrize("sizes", [(0.15, 0.2), (1, 1), (3, 7)])
def test_few_or_tied_numbers_are_split_all_the_same(write, run, values, sizes):
    write("rows.csv", numbered(values))
    report = run(task=TASK, columns=COLUMNS, validation=sizes[0], test=sizes[1]).report
    expected = [size if isinstance(size, int) else round(size * len(values)) for size in sizes]
    assert [report.rows["validation"], report.rows["test"]] == expected
    assert sum(report.rows.values()) == len(values)


def test_no_calibration_rows_have_no_quantiles(write, run):
    write("rows.csv", numbered(range(40)))
    assert run(task=TASK, columns=COLUMNS).report.target_quantiles.keys() == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("cell", "kind", "said"),
    [
        ("much", "no number", "the column 'price' holds 'much', expected a finite number"),
        (
            "1,5",
            "no number",
            "the column 'price' holds '1,5', expected a finite number; for decimal commas set data.decimal: ','",
        ),
        ("inf", "no number", "the column 'price' holds 'inf', expected a finite number"),
        ("nan", "no number", "the column 'price' holds 'nan', expected a finite number"),
        (" ", "empty label", "the column 'price' is empty"),
    ],
)
def test_cells_that_are_no_number(write, run, complaint, cell, kind, said):
    write("rows.csv", numbered([*range(40), cell]))
    line = f"rows.csv:42: {said}; mend the row, or set data.on_error: skip"
    assert complaint(task=TASK, columns=COLUMNS) == line
    assert run(task=TASK, columns=COLUMNS, on_error="skip").report.skipped == {kind: 1}


def test_the_same_number_everywhere(write, complaint):
    write("rows.csv", numbered([2.5] * 20))
    assert complaint(task=TASK, columns=COLUMNS) == (
        "rows.csv: each of 20 rows has the number 2.5 in 'price': a regression needs different ones; look at "
        "data.columns.label"
    )


def test_labels_of_a_regression(write, complaint):
    write("rows.csv", numbered(range(40)))
    assert complaint(task=TASK, columns=COLUMNS, labels=["a"]) == (
        "data.labels: a regression estimates a number and has no labels; remove the key"
    )
    assert complaint(task=TASK, columns=COLUMNS, label_names={"1": "2"}).startswith("data.label_names: no row has")


def test_the_same_text_with_other_numbers_is_a_conflict(write, run):
    write("rows.csv", as_csv([*((f"t {i}", i / 4) for i in range(40)), ("t 3", "0.75"), ("t 4", "1.25")]))
    report = run(task=TASK).report
    assert (report.duplicates, report.conflicts) == (1, 1)
    assert report.conflict_examples == ("rows.csv:43 (1.25), kept rows.csv:6 (1)",)


def test_a_change_of_a_number_changes_the_fingerprint(write, run):
    write("rows.csv", numbered(range(40)))
    before = run(task=TASK, columns=COLUMNS).fingerprint
    assert run(task=TASK, columns=COLUMNS, folder="again").fingerprint == before
    write("rows.csv", numbered([0.001, *range(1, 40)]))
    assert run(task=TASK, columns=COLUMNS, folder="after").fingerprint != before


def test_images_with_numbers_and_own_files(tmp_path, run, write):
    rows = [(path, i / 8) for i, (path, _) in enumerate(save_paths(tmp_path / "photos", 40))]
    write("rows.csv", as_csv(rows[:30], ("image", "probability")))
    write("own.csv", as_csv(rows[30:], ("image", "probability")))
    splits = run(task="image_regression", columns={"label": "probability"}, test="own.csv")
    assert splits.labels == ("probability",)
    assert [row["label"] for row in splits.test] == [[i / 8] for i in range(30, 40)]
    assert splits.report.target_quantiles["test"]["p100"] == 39 / 8
    assert splits.report.image_sides["p50"] == 9
