"""How many rows are kept aside to calibrate with when the recipe does not say."""

from __future__ import annotations

import pytest
from labelled_rows import labelled

from tledge import tasks
from tledge.data import load
from tledge.recipe.schema import Data


@pytest.fixture
def rows_with(tmp_path, write):
    """The rows of each split when that many calibration rows are the default."""

    def rows_with(rows, default, task="text_classification", **keys):
        write("rows.csv", rows)
        settings, folder = Data(train="rows.csv", **keys), tmp_path / "out"
        return load(settings, tasks.load(task), seed=3, folder=folder, base=tmp_path, calibration=default).report

    return rows_with


@pytest.mark.parametrize(
    ("n_rows", "default", "count"), [(2000, 100, 100), (800, 100, 52), (100, 100, 8), (2000, 20, 20), (100, 0, 0)]
)
def test_the_default_is_at_most_a_tenth_of_the_rows_to_train_on(rows_with, n_rows, default, count):
    report = rows_with(labelled(n_rows), default)
    assert report.rows["calibration"] == count and sum(report.rows.values()) == n_rows
    assert abs(report.label_counts["calibration"]["bad"] - count / 2) < 1


@pytest.mark.parametrize("count", [0, 3, 15])
def test_what_the_recipe_says_is_taken(rows_with, count):
    assert rows_with(labelled(100), 100, calibration=count).rows["calibration"] == count


@pytest.mark.parametrize("n_labels", [2, 5, 20])
@pytest.mark.parametrize("each", [3, 4, 6])
def test_the_default_leaves_each_label_a_row_to_train_on(rows_with, n_labels, each):
    labels = tuple(f"l{i:02}" for i in range(n_labels))
    report = rows_with(labelled(n_labels * each, labels), 100, validation=n_labels, test=n_labels)
    assert min(report.label_counts["train"].values()) > 0
    assert report.rows["calibration"] <= max(8, n_labels * (each - 2) // 10)
    assert report.rows["calibration"] or each == 3
    assert report.rows["calibration"] <= report.rows["train"]


def test_the_default_for_numbers(rows_with):
    rows = [(f"t {i}", i) for i in range(10)]
    assert rows_with(rows, 100, "text_regression", validation=1, test=1).rows["calibration"] == 4
