"""How many rows of which label go where, and what too few rows do."""

from __future__ import annotations

from collections import Counter

import pytest
from labelled_rows import labelled, texts_of

NAMES = ("train", "validation", "calibration", "test")


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize(("n_rows", "validation", "test"), [(400, 0.15, 0.2), (403, 0.1, 0.25), (97, 0.3, 0.3)])
def test_each_label_has_its_share(write, run, seed, n_rows, validation, test):
    write("rows.csv", labelled(n_rows, ("a",) * 6 + ("b",) * 3 + ("c",)))
    report = run(seed=seed, validation=validation, test=test).report
    total = Counter()
    for counts in report.label_counts.values():
        total.update(counts)
    for name, share in (("test", test), ("validation", validation)):
        assert report.rows[name] == round(share * n_rows)
        for label, count in report.label_counts[name].items():
            assert abs(count - report.rows[name] / n_rows * total[label]) <= 1, (name, label)


def test_the_seed_decides(write, run):
    write("rows.csv", labelled(80))
    one, same, other = (texts_of(run(seed=seed, calibration=6, folder=f"{i}")) for i, seed in enumerate((3, 3, 4)))
    assert one == same
    assert all(sorted(one[name]) != sorted(other[name]) for name in ("validation", "calibration", "test"))


def test_the_order_of_rows_stays_that_of_the_file(write, run):
    write("rows.csv", labelled(80))
    for texts in texts_of(run(calibration=9)).values():
        numbers = [int(text.rpartition(" ")[2]) for text in texts]
        assert numbers and numbers == sorted(numbers)


def test_counts_instead_of_fractions(write, run):
    write("rows.csv", labelled(80))
    report = run(validation=11, test=13, calibration=7).report
    assert report.rows == {"train": 49, "validation": 11, "calibration": 7, "test": 13}
    assert report.n_read == {"train": 80}
    assert abs(report.label_counts["calibration"]["bad"] - 3.5) < 1


def test_fractions_are_of_all_training_rows(write, run):
    write("rows.csv", labelled(100))
    assert run(validation=0.5, test=0.4).report.rows == {"train": 10, "validation": 50, "calibration": 0, "test": 40}


def test_fewer_calibration_rows_than_labels(write, run):
    write("rows.csv", labelled(100, tuple("abcdefghij")))
    splits = run(calibration=3)
    assert splits.report.rows["calibration"] == len(splits.calibration) == 3


def test_no_calibration_rows(write, run):
    write("rows.csv", labelled(40))
    splits = run()
    assert len(splits.calibration) == 0
    assert splits.calibration.column_names == ["text", "label", "row"]
    assert splits.calibration.features == splits.train.features


def test_the_fewest_rows_that_work(write, run):
    write("rows.csv", labelled(6))
    assert run(validation=2, test=2).report.label_counts == {
        "train": {"bad": 1, "good": 1},
        "validation": {"bad": 1, "good": 1},
        "calibration": {"bad": 0, "good": 0},
        "test": {"bad": 1, "good": 1},
    }


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"test": 40}, "data.test: asks for 40 rows, but there are 40, and none would be left to train on"),
        ({"test": 39}, "data.test: asks for 39 rows, and too few of 40 rows would be left to train on"),
        ({"test": 1}, "data.test: asks for 1 rows, too few to hold each of 2 labels; ask for 2 or more"),
        ({"test": 0.01}, "data.test: 0.01 of 40 rows is 1, too few to hold each of 2 labels; ask for 2 or more"),
        (
            {"test": 0.9, "validation": 0.5},
            "data.validation: 0.5 of 40 rows is 20, but there are 4, and none would be left to train on",
        ),
        ({"calibration": 26}, "data.calibration: asks for 26 rows, but there are 26, and none would be left"),
    ],
)
def test_sizes_that_do_not_fit(write, complaint, keys, line):
    write("rows.csv", labelled(40))
    assert complaint(**keys).startswith(line)


def test_calibration_rows_that_use_a_label_up(write, complaint):
    write("rows.csv", labelled(40))
    said = complaint(calibration=25)
    assert said.startswith("the label ") and "has so few rows in rows.csv that none is left to train on; add" in said


@pytest.mark.parametrize(
    ("count", "line"),
    [
        (1, "the label 'rare' has 1 row in rows.csv; splitting it into train, test, validation takes 3 of each label"),
        (2, "the label 'rare' has 2 rows in rows.csv; splitting it into train, test, validation takes 3 of each label"),
    ],
)
def test_a_label_with_too_few_rows(write, complaint, count, line):
    write("rows.csv", [*labelled(40), *labelled(count, ("rare",), start=90)])
    said = complaint()
    assert said.startswith(line)
    assert "add rows, remove the label's rows, or give files of your own" in said


def test_a_rare_label_is_enough_with_own_files(write, run):
    write("rows.csv", [*labelled(40), ("rare text", "rare")])
    write("val.csv", labelled(4, start=50))
    write("test.csv", labelled(4, start=60))
    assert run(validation="val.csv", test="test.csv").report.label_counts["train"]["rare"] == 1


def test_many_labels_with_too_few_rows_are_counted(write, complaint):
    write("rows.csv", [*labelled(40), *labelled(3, ("r1", "r2", "r3"), start=90)])
    assert "the label 'r1' has 1 row in rows.csv (and 2 more labels have too few)" in complaint()


@pytest.mark.parametrize("seed", range(8))
def test_rare_labels_beside_common_ones_are_left_to_train_on(write, run, seed):
    """Rows of several labels, some of them rare, still leave each label in the training rows."""
    cells = ["a", "b", "a|b", "", "a|rare", "b|rare", "rare|odd", "odd", "a|odd", "b|odd"]
    write("rows.csv", [(f"t {i}", cells[i % 4] if i < 60 else cells[i % 10]) for i in range(90)])
    report = run(task="text_multilabel", seed=seed).report
    assert all(report.label_counts["train"].values())
    assert all(report.label_counts["test"].values())


def test_lengths_are_of_the_training_texts(write, run):
    write("rows.csv", [(f"{i:03}" + "x" * (i % 10), "ab"[i % 2]) for i in range(100)])
    splits = run()
    lengths = sorted(map(len, splits.train["text"]))
    assert splits.report.text_lengths["p0"] == lengths[0]
    assert splits.report.text_lengths["p100"] == lengths[-1]
    assert lengths[0] <= splits.report.text_lengths["p50"] <= lengths[-1]


def test_skipped_rows_are_counted_by_kind_with_examples(write, run):
    good = "".join(f"{text},{label}\n" for text, label in labelled(40)).encode()
    bad = b"one\n" + b"one,two,three\n" * 3 + b"caf\xe9,bad\n" + b" ,bad\n" * 30 + b"x,\n"
    write("rows.csv", b"text,label\n" + bad + good)
    write("test.csv", b"text,label\nn1,bad\nn2,good\nbroken\n")
    report = run(on_error="skip", test="test.csv").report
    assert report.skipped == {
        "too few cells": 2, "too many cells": 3, "undecodable text": 1, "empty text": 30, "empty label": 1
    }  # fmt: skip
    assert report.n_read == {"train": 76, "test": 3}
    assert len(report.skipped_examples) == 20
    assert report.skipped_examples[0] == "rows.csv:2: expected 2 cells as in the header, got 1"
    assert report.skipped_examples[4] == "rows.csv:6: the byte 0xe9 is not utf-8; set data.encoding"
