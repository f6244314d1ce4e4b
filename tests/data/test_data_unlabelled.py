"""Rows without a label, beside the labelled ones."""

import pytest
from labelled_rows import labelled, texts_of

from tledge import data


@pytest.fixture
def rows(write):
    write("rows.csv", labelled(40))


def test_new_texts_are_kept_once_and_known_ones_left_out(run, write, rows, tmp_path):
    write("more.csv", "text\nnew one\nnew  one\ntext number 3\nnew two\n")
    splits = run(unlabelled="more.csv")
    found = data.open_unlabelled(tmp_path / "out")
    assert list(found["text"]) == ["new one", "new two"]
    assert splits.report.unlabelled == 2
    assert not {"new one", "new two"} & {text for texts in texts_of(splits).values() for text in texts}


def test_without_the_key_there_are_none(run, rows, tmp_path):
    assert run().report.unlabelled == 0
    assert data.open_unlabelled(tmp_path / "out") is None


def test_a_label_column_is_neither_needed_nor_read(run, write, rows, tmp_path):
    write("more.csv", "text,label\nnew one,unheard of\n")
    assert run(unlabelled="more.csv").labels == ("bad", "good")
    assert list(data.open_unlabelled(tmp_path / "out")["text"]) == ["new one"]


def test_a_missing_column_is_named(complaint, write, rows):
    write("more.csv", "words\nnew one\n")
    assert "more.csv has no column 'text'; its columns are words" in complaint(unlabelled="more.csv")


def test_no_new_row_is_an_error(complaint, write, rows):
    write("more.csv", "text\ntext number 1\n")
    assert complaint(unlabelled="more.csv") == (
        "data.unlabelled: more.csv has no row that the training, validation and test rows do not have"
    )


def test_a_broken_row_stops_or_is_left_out(complaint, run, write, rows, tmp_path):
    write("more.jsonl", '{"text": "new one"}\n{"text": 3}\n{"text": "new two"}\n')
    assert complaint(unlabelled="more.jsonl").startswith("more.jsonl:2: ")
    run(unlabelled="more.jsonl", on_error="skip", folder="again")
    assert list(data.open_unlabelled(tmp_path / "again")["text"]) == ["new one", "new two"]
