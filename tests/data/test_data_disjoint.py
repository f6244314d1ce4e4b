"""No text is in two splits, and where the user's own files overlap it is refused or dropped, and said."""

from __future__ import annotations

import itertools
import unicodedata

import numpy as np
import pytest
from labelled_rows import labelled, texts_of

from tledge.data import open_splits
from tledge.data import splits as partition

SPLITS = ("train", "validation", "calibration", "test")


def normal(text):
    return " ".join(unicodedata.normalize("NFC", text).split())


def assert_disjoint(splits):
    """No row and no normalised text is in two splits."""
    for name, other in itertools.combinations(SPLITS, 2):
        one, two = getattr(splits, name), getattr(splits, other)
        assert not set(one["row"]) & set(two["row"])
        assert not {normal(text) for text in one["text"]} & {normal(text) for text in two["text"]}


# The same text in other words' clothes: space, composition, a no-break space.
TWINS = ("café  number {}", "cafe\u0301 number {}", "café\u00a0number {}", " café\nnumber {} ")


def test_texts_that_differ_in_space_or_composition_alone_are_one(write, run):
    write("rows.csv", [(twin.format(i), "ab"[i % 2]) for i in range(60) for twin in TWINS])
    splits = run(calibration=5)
    assert_disjoint(splits)
    assert splits.report.duplicates == 180
    assert sum(splits.report.rows.values()) == 60
    assert set(splits.train["text"]) <= {TWINS[0].format(i) for i in range(60)}


def test_a_leak_of_our_own_is_never_written(write, run, monkeypatch, tmp_path):
    write("rows.csv", labelled(40) * 2)
    monkeypatch.setattr(partition, "first_of_each", lambda texts, labels: (np.arange(len(texts)), 0, []))
    with pytest.raises(AssertionError, match="an input is in two splits"):
        run()
    assert list((tmp_path / "out").iterdir()) == []


def test_case_and_marks_make_another_text(write, run):
    write("rows.csv", [(form.format(i), "ab"[i % 2]) for i in range(10) for form in ("a{}", "A{}", "a{}.", "á{}")])
    assert run().report.duplicates == 0


def test_exact_duplicates_and_conflicts_are_counted_and_the_first_kept(write, run):
    rows = [*labelled(40), *labelled(10), ("text number 0", "good"), ("text number 3", "bad")]
    write("rows.csv", rows)
    splits = run()
    report = splits.report
    assert (report.duplicates, report.conflicts) == (10, 2)
    assert report.conflict_examples == (
        "rows.csv:52 (good), kept rows.csv:2 (bad)",
        "rows.csv:53 (bad), kept rows.csv:5 (good)",
    )
    assert sum(report.rows.values()) == 40 and report.n_read == {"train": 52}
    kept = {row["text"]: row["label"] for name in SPLITS for row in getattr(splits, name)}
    assert kept["text number 0"] == [0] and kept["text number 3"] == [1]
    assert_disjoint(splits)


def test_the_order_of_several_labels_makes_no_conflict(write, run):
    rows = [(f"t {i}", ("a|b", "a", "b")[i % 3]) for i in range(60)]
    write("rows.csv", [*rows, ("t 0", "b|a"), ("t 3", "a")])
    report = run(task="text_multilabel").report
    assert (report.duplicates, report.conflicts) == (1, 1)


@pytest.mark.parametrize("held_out", ["validation", "test"])
def test_an_overlap_with_an_own_file_is_refused(write, complaint, held_out):
    write("rows.csv", labelled(40))
    write("own.csv", [("text\u00a0number  7", "good"), *labelled(4, start=90), ("text number 9", "good")])
    assert complaint(**{held_out: "own.csv"}) == (
        f"2 train rows have the text of a {held_out} row, such as rows.csv:9 = own.csv:2, rows.csv:11 = own.csv:7; "
        "take them out of one file, or set data.on_overlap: drop to leave them out of the train rows"
    )


def test_one_overlap_is_said_of_one_row(write, complaint):
    write("rows.csv", labelled(40))
    write("own.csv", labelled(5, start=39))
    assert complaint(test="own.csv").startswith("1 train row has the text of a test row, such as rows.csv:41 = own.csv")


def test_an_overlap_is_dropped_from_the_training_rows(write, run):
    write("rows.csv", [*labelled(40), ("text number 39", "good")])
    write("own.csv", labelled(6, start=36))
    splits = run(test="own.csv", on_overlap="drop")
    assert splits.report.overlap_dropped == 4  # the duplicate was left out before
    assert splits.report.duplicates == 1
    assert splits.report.rows["test"] == 6
    assert_disjoint(splits)


def test_validation_and_test_files_that_overlap(write, run, complaint):
    write("rows.csv", labelled(40))
    write("val.csv", labelled(10, start=50))
    write("test.csv", labelled(10, start=58))
    keys = {"validation": "val.csv", "test": "test.csv"}
    assert complaint(**keys) == (
        "2 validation rows have the text of a test row, such as val.csv:10 = test.csv:2, val.csv:11 = test.csv:3; take "
        "them out of one file, or set data.on_overlap: drop to leave them out of the validation rows"
    )
    splits = run(**keys, on_overlap="drop")
    assert splits.report.rows == {"train": 40, "validation": 8, "calibration": 0, "test": 10}
    assert splits.report.overlap_dropped == 2
    assert_disjoint(splits)


def test_a_text_in_all_three_files_stays_in_the_test_file_alone(write, run):
    write("rows.csv", labelled(40))
    write("val.csv", labelled(6, start=34))
    write("test.csv", labelled(5, start=38))
    splits = run(validation="val.csv", test="test.csv", on_overlap="drop")
    assert splits.report.rows == {"train": 34, "validation": 4, "calibration": 0, "test": 5}
    assert_disjoint(splits)


@pytest.mark.parametrize("held_out", ["validation", "test"])
def test_the_training_file_given_again(write, complaint, held_out):
    write("rows.csv", labelled(40))
    keys = {held_out: "rows.csv"}
    assert complaint(**keys).startswith(f"40 train rows have the text of a {held_out} row, such as rows.csv:2 = ")
    assert complaint(**keys, on_overlap="drop") == (
        "no row of rows.csv is left to train on: each one is in the validation or test file"
    )


def test_the_test_file_given_for_validation_too(write, complaint):
    write("rows.csv", labelled(40))
    write("own.csv", labelled(6, start=60))
    assert complaint(validation="own.csv", test="own.csv", on_overlap="drop") == (
        "no row of own.csv is left for validation: each one is in the test file too"
    )


def test_repeated_rows_of_an_own_file_are_kept_and_counted(write, run):
    write("rows.csv", labelled(40))
    write("own.csv", [*labelled(4, start=90), *labelled(2, start=90)])
    report = run(test="own.csv").report
    assert report.repeated == {"test": 2}
    assert report.rows["test"] == 6


def test_own_files_leave_the_training_rows_whole(write, run):
    write("rows.csv", labelled(40))
    write("val.csv", labelled(4, start=50))
    write("test.csv", labelled(6, start=60))
    splits = run(validation="val.csv", test="test.csv", calibration=8)
    assert splits.report.rows == {"train": 32, "validation": 4, "calibration": 8, "test": 6}
    assert splits.report.sources == {
        "train": "rows.csv", "validation": "val.csv", "calibration": "rows.csv", "test": "test.csv"
    }  # fmt: skip
    assert texts_of(splits)["test"] == [text for text, _ in labelled(6, start=60)]
    assert splits.validation["row"][0] == "val.csv:2"
    assert_disjoint(splits)


def test_open_splits_is_what_load_gave(write, run, tmp_path):
    write("rows.csv", [*labelled(40), ("", "bad")])
    written = run(on_error="skip", calibration=3)
    opened = open_splits(tmp_path / "out")
    assert opened.report == written.report and opened.labels == written.labels
    for name in SPLITS:
        assert getattr(opened, name).to_list() == getattr(written, name).to_list()
        assert getattr(opened, name).features == getattr(written, name).features
    assert opened.fingerprint == written.fingerprint


@pytest.mark.parametrize("change", ["text", "label", "split", "names"])
def test_the_fingerprint_tells_a_change(write, run, change):
    rows = labelled(40)
    write("rows.csv", rows)
    before = run(test=0.2).fingerprint
    assert run(test=0.2, folder="again").fingerprint == before
    if change == "text":
        write("rows.csv", [("another text", "bad"), *rows[1:]])
    elif change == "label":
        write("rows.csv", [(rows[0][0], "good"), *rows[1:]])
    keys = {"label_names": {"good": "fine"}} if change == "names" else {}
    after = run(test=0.3 if change == "split" else 0.2, folder="after", **keys).fingerprint
    assert after != before
