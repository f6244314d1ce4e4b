"""`data.shots`: so many rows of each label train, and the others lose their label."""

from __future__ import annotations

import pytest
from labelled_rows import labelled, texts_of

from tledge.data import open_unlabelled


def test_so_many_rows_of_each_label_train_and_the_others_keep_no_label(write, run, tmp_path):
    write("rows.csv", labelled(60, ("a", "b", "c")))
    splits = run(shots=4, test=0.2, validation=0.2)
    assert splits.report.label_counts["train"] == {"a": 4, "b": 4, "c": 4}
    assert (len(splits.test), len(splits.validation)) == (12, 12)
    rest = open_unlabelled(tmp_path / "out")
    assert len(rest) == splits.report.unlabelled == 60 - 12 - 12 - 12
    assert all(label == [] for label in rest["label"])
    every = [text for texts in texts_of(splits).values() for text in texts] + list(rest["text"])
    assert len(set(every)) == len(every) == 60


def test_the_seed_draws_them_and_fewer_are_a_part_of_more(write, run):
    write("rows.csv", labelled(80))
    write("test.csv", labelled(10, start=100))
    write("dev.csv", labelled(10, start=200))
    own = {"test": "test.csv", "validation": "dev.csv"}
    few, more, other = (
        set(run(shots=count, seed=seed, folder=f"out{count}{seed}", **own).train["text"])
        for count, seed in ((2, 1), (8, 1), (8, 2))
    )
    assert few < more != other
    assert len(more) == len(other) == 16


def test_a_label_with_too_few_rows_is_named_with_its_count(write, complaint):
    write("rows.csv", labelled(20, ("a", "a", "a", "b")))
    write("test.csv", labelled(4, ("a", "b"), start=100))
    assert complaint(shots=6, test="test.csv", validation=0.2) == (
        "data.shots: asks for 6 rows of each label, but 'b' has 4 that may train, after validation, test and "
        "calibration rows are taken; ask for 4 or fewer, or give more rows of it"
    )


@pytest.mark.parametrize("shots", [None, 8])
def test_rows_without_a_label_are_kept_only_where_there_are_some(write, run, tmp_path, shots):
    write("rows.csv", labelled(40))
    run(shots=shots, test=12, validation=12)
    assert (open_unlabelled(tmp_path / "out") is None) == (shots is None or shots == 8)
