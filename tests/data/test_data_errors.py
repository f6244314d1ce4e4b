"""Each mistake in a user's rows, and the exact line that is read."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tledge

HEAD = "text,label\n"
ROWS = "one,a\ntwo,b\n"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        pytest.param("\n\n", "rows.csv:1: expected a header with the columns' names, got an empty file", id="blank"),
        pytest.param(HEAD, "rows.csv has no usable row", id="header only"),
        pytest.param(
            "text,label,text\na,b,c\n",
            "rows.csv:1: the header names the column 'text' twice; give each its own name",
            id="header names a column twice",
        ),
        pytest.param(
            HEAD + ROWS + "three,c,more\n",
            "rows.csv:4: expected 2 cells as in the header, got 3; mend the row, or set data.on_error: skip",
            id="too many cells",
        ),
        pytest.param(
            HEAD + ROWS + "\nthree\n",
            "rows.csv:5: expected 2 cells as in the header, got 1; mend the row, or set data.on_error: skip",
            id="too few cells, after a blank line",
        ),
        pytest.param(
            HEAD + '"é\n\nmore",a\n"two\nlines",b\nthree\n',
            "rows.csv:7: expected 2 cells as in the header, got 1; mend the row, or set data.on_error: skip",
            id="after cells of several lines",
        ),
        pytest.param(
            HEAD + '"one\n1",a\n"two\n2",b,c\n',
            "rows.csv:4: expected 2 cells as in the header, got 3; mend the row, or set data.on_error: skip",
            id="the line where the row starts",
        ),
        pytest.param(
            HEAD + ROWS + 'ok,a\n"left open,a\nnext,b\n',
            "rows.csv:5: a quote that this row opens is never closed; close it, or write it twice inside quotes",
            id="open quote",
        ),
        pytest.param(
            HEAD + ROWS + '"three" more,a\n',
            "rows.csv:4: ',' expected after '\"'; write a quote inside quotes twice; mend the row, or set "
            "data.on_error: skip",
            id="text after a quote",
        ),
        pytest.param(
            HEAD.encode() + b"caf\xe9,a\n",
            "rows.csv:2: the byte 0xe9 is not utf-8; set data.encoding; mend the row, or set data.on_error: skip",
            id="undecodable byte",
        ),
        pytest.param(
            b"\0" + (HEAD + ROWS).encode(),
            "rows.csv:1: a NUL byte; is this a text file, and of the encoding that data.encoding says? (the first line "
            "must hold the columns' names)",
            id="a NUL byte",
        ),
        pytest.param(
            "review,sentiment\n" + ROWS,
            "rows.csv has no column 'text'; its columns are 'review', 'sentiment'; set data.columns.text",
            id="no text column",
        ),
        pytest.param(
            "text,labels\n" + ROWS,
            "rows.csv has no column 'label'; its columns are 'text', 'labels'; did you mean 'labels'?; set "
            "data.columns.label",
            id="no label column",
        ),
        pytest.param(
            "text;label|other\none;a|b\n",
            "rows.csv has no column 'text'; its columns are 'text;label|other'; set data.columns.text, "
            "or data.delimiter: ';'",
            id="another delimiter",
        ),
        pytest.param(
            HEAD + "one,a\n  ,b\n",
            "rows.csv:3: the column 'text' is empty; mend the row, or set data.on_error: skip",
            id="empty text",
        ),
        pytest.param(
            HEAD + "one,a\ntwo, \n",
            "rows.csv:3: the column 'label' is empty; mend the row, or set data.on_error: skip",
            id="empty label",
        ),
        pytest.param(
            HEAD + "one,a\ntwo,a\n",
            "rows.csv has only one label, 'a', in 2 rows: the task needs two; look at data.columns.label",
            id="one class",
        ),
    ],
)
def test_a_broken_csv_file(write, complaint, content, line):
    assert complaint(write("rows.csv", content)) == line


@pytest.mark.parametrize(
    ("content", "line"),
    [
        pytest.param(
            '{"text": "one", "label": "a"}\n\n{"text": "two", label: "b"}\n',
            "rows.jsonl:3: no JSON at column 17: Expecting property name enclosed in double quotes; mend the row, or "
            "set data.on_error: skip",
            id="no JSON",
        ),
        pytest.param(
            "oops\n",
            "rows.jsonl:1: no JSON at column 1: Expecting value; mend the row, or set data.on_error: skip",
            id="no JSON on the only line",
        ),
        pytest.param(
            '{"text": "one", "label": "a"}\n["two", "b"]\n',
            "rows.jsonl:2: expected a JSON object, got a list; mend the row, or set data.on_error: skip",
            id="a list",
        ),
        pytest.param(
            '[{"text": "one", "label": "a"}]\n',
            "rows.jsonl:1: expected a JSON object, got a list; mend the row, or set data.on_error: skip",
            id="a JSON file",
        ),
        pytest.param(
            '{"text": "one", "label": "a", "text": "two"}\n',
            "rows.jsonl:1: no JSON that can be read: the key 'text' is there twice; mend the row, or set "
            "data.on_error: skip",
            id="a key twice",
        ),
        pytest.param(
            '{"text": "one", "label": "a"}\n{"text": "two"}\n',
            "rows.jsonl:2: there is no 'label'; mend the row, or set data.on_error: skip",
            id="a key missing",
        ),
        pytest.param(
            '{"text": 7, "label": "a"}\n',
            "rows.jsonl:1: the column 'text' holds 7, expected text; mend the row, or set data.on_error: skip",
            id="a number for a text",
        ),
        pytest.param(
            '{"text": "one", "label": ["a", "b"]}\n',
            "rows.jsonl:1: the column 'label' holds ['a', 'b'], expected one label name; mend the row, or set "
            "data.on_error: skip",
            id="labels for a label",
        ),
        pytest.param(
            '{"text": "one", "label": null}\n',
            "rows.jsonl:1: the column 'label' is empty; mend the row, or set data.on_error: skip",
            id="null label",
        ),
        pytest.param(
            '{"text": "half \\ud83d", "label": "a"}\n',
            "rows.jsonl:1: the column 'text' holds half of a surrogate pair; mend the row, or set data.on_error: skip",
            id="half a character",
        ),
        pytest.param(
            '{"text": "one", "label": "half \\ud83d"}\n',
            "rows.jsonl:1: the column 'label' holds half of a surrogate pair; mend the row, or set data.on_error: skip",
            id="half a character of a label",
        ),
        pytest.param(
            '{"text": "one", "label": {"name": "a"}}\n',
            "rows.jsonl:1: the column 'label' holds {'name': 'a'}, expected one label name; mend the row, or set "
            "data.on_error: skip",
            id="an object for a label",
        ),
        pytest.param(
            '{"txt": "one", "label": "a"}\n',
            "rows.jsonl has no column 'text'; its columns are 'txt', 'label'; did you mean 'txt'?; set "
            "data.columns.text",
            id="no text column",
        ),
        pytest.param("\n \n", "rows.jsonl has no line; expected one JSON object a line", id="blank"),
    ],
)
def test_a_broken_jsonl_file(write, complaint, content, line):
    assert complaint(write("rows.jsonl", content)) == line


@pytest.mark.parametrize("label", [["a", None], [["a"]], [{"name": "a"}], {"a": 1}])
def test_labels_that_are_no_names(write, complaint, label):
    write("rows.jsonl", json.dumps({"text": "one", "label": label}) + "\n")
    assert complaint("rows.jsonl", task="text_multilabel") == (
        f"rows.jsonl:1: the column 'label' holds {label!r}, expected label names; mend the row, or set data.on_error: "
        "skip"
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows guesses where another user's home is")
def test_a_home_that_nobody_has(complaint):
    assert complaint("~no-such-user-here/rows.csv") == (
        "data.train: '~no-such-user-here/rows.csv': no such user's home is known; write the whole path"
    )


def test_a_file_that_is_missing_names_the_nearest(write, complaint, tmp_path):
    write("reviews.csv", HEAD + ROWS)
    assert complaint("review.csv") == (
        f"data.train: there is no file {tmp_path / 'review.csv'}; did you mean 'reviews.csv'?"
    )
    assert complaint("no/such.csv").endswith("; its folder does not exist either")


def test_a_folder_without_images_lists_what_it_holds(complaint, tmp_path):
    (tmp_path / "rows").mkdir()
    said = complaint("rows")
    assert said.startswith(f"data.train: there is no image in {tmp_path / 'rows'}; looked in its subfolders for names")
    assert said.endswith("the folder holds nothing")
    (tmp_path / "rows" / "a.csv").touch()
    assert complaint("rows").endswith("the folder holds a.csv")


def test_an_empty_file(write, complaint, tmp_path):
    write("rows.csv", "")
    assert complaint("rows.csv") == f"data.train: {tmp_path / 'rows.csv'} is empty; expected labelled rows"


def test_a_pointer_in_the_place_of_a_table(write, complaint):
    write("rows.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert complaint("rows.csv").endswith("rows.csv is a Git LFS pointer, not the file itself; run `git lfs pull`, or "
                                          "download the file")  # fmt: skip


@pytest.mark.parametrize(("name", "hint"), [("rows.cvs", "; did you mean '.csv'?"), ("rows", ""), ("rows.xlsx", "")])
def test_an_unknown_format(write, complaint, name, hint):
    assert complaint(write(name, HEAD + ROWS)) == (
        f"data.train: {name!r} is of no known format; expected a name ending in .npz, .conll, .iob, .iob2, "
        f".bio, .bioes, .csv, .tsv, .tab, .json, .jsonl, .ndjson, .parquet, .txt, .md, .tokens, .yaml, .yml{hint}"
    )


def test_a_web_address(complaint):
    assert complaint("https://example.com/rows.csv") == (
        "data.train: 'https://example.com/rows.csv' is a web address (https); download the file and give its path"
    )


def test_a_hub_name_without_its_prefix(complaint):
    assert complaint("owner/name").endswith("; for a data set on the hub write hub:owner/name")


def test_the_key_of_the_source_is_named(write, complaint, tmp_path):
    write("rows.csv", HEAD + ROWS)
    assert complaint("rows.csv", validation="val.tsv").startswith("data.validation: there is no file ")
    assert complaint("rows.csv", test="t.tsv").startswith("data.test: there is no file ")


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        (
            "utf8x",
            "data.encoding: 'utf8x' is not known; expected one such as utf-8, utf-16, latin-1, cp1252; did you mean "
            "'utf-8'?",
        ),
        ("klingon", "data.encoding: 'klingon' is not known; expected one such as utf-8, utf-16, latin-1, cp1252"),
        ("base64", "data.encoding: 'base64' is not known; expected one such as utf-8, utf-16, latin-1, cp1252"),
    ],
)
def test_an_unknown_encoding(write, complaint, encoding, line):
    assert complaint(write("rows.csv", HEAD + ROWS), encoding=encoding) == line


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_an_encoding_that_does_not_fit_at_all(write, complaint, name):
    line = complaint(write(name, "text,label\nodd number of bytes,a"), encoding="utf-16")
    assert line.startswith("rows.") and line.endswith("; set data.encoding")


def test_a_delimiter_that_cannot_be_one(write, complaint):
    line = complaint(write("rows.csv", HEAD + ROWS), delimiter='"')
    assert line == "data.delimiter: '\"' cannot stand between columns; set another character"


def test_a_parquet_file_that_is_none(write, complaint):
    assert complaint(write("rows.parquet", "text,label\none,a\n")).startswith(
        "rows.parquet cannot be read as Parquet: "
    )


def test_a_parquet_file_cut_short(write, complaint, tmp_path):
    pq.write_table(pa.table({"text": ["one"] * 50, "label": ["a"] * 50}), tmp_path / "rows.parquet")
    whole = (tmp_path / "rows.parquet").read_bytes()
    assert complaint(write("rows.parquet", whole[:-20])).startswith("rows.parquet cannot be read as Parquet: ")
    spoilt = whole[:4] + bytes(60) + whole[64:]
    assert complaint(write("rows.parquet", spoilt)).startswith("rows.parquet cannot be read as Parquet: ")


def test_a_parquet_column_there_twice(complaint, tmp_path):
    table = pa.Table.from_arrays([pa.array(["one"])] * 2, names=["text", "text"])
    pq.write_table(table, tmp_path / "rows.parquet")
    assert complaint("rows.parquet") == "rows.parquet has two columns of the name 'text'; give each its own name"


def test_a_gzip_file_that_is_none_or_cut_short(write, complaint):
    assert complaint(write("rows.csv.gz", HEAD + ROWS)).startswith("rows.csv.gz cannot be unpacked: ")
    packed = gzip.compress((HEAD + ROWS * 99).encode())
    line = complaint(write("rows.csv.gz", packed[:-12]))
    assert line.startswith("rows.csv.gz cannot be unpacked: ") and line.endswith("; pack it again with gzip or bzip2")


def test_a_column_mapping_with_an_unknown_key(write, complaint):
    assert complaint(write("rows.csv", HEAD + ROWS), columns={"txt": "text"}) == (
        "data.columns: 'txt' is no column of the task; it has text and label; did you mean 'text'?"
    )


def test_a_column_mapping_to_a_column_that_is_not_there(write, complaint):
    write("rows.csv", "review,label\n" + ROWS)
    assert complaint(columns={"text": "reviews"}) == (
        "rows.csv has no column 'reviews'; its columns are 'review', 'label'; did you mean 'review'?; set "
        "data.columns.text"
    )


def test_one_column_for_two(write, complaint):
    assert complaint(write("rows.csv", HEAD + ROWS), columns={"text": "label"}) == (
        "data.columns: text and label are both 'label'; give each its own"
    )


def test_hub_failures_are_one_line(complaint, monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("Couldn't reach 'owner/name' on the Hub\nwith a long trace")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    assert complaint("hub:owner/name") == (
        "data.train: cannot load 'hub:owner/name' from the hub: Couldn't reach 'owner/name' on the Hub; check the name "
        "and the network (and HF_HUB_OFFLINE), or give a local file"
    )


@pytest.mark.parametrize("reference", ["hub:", "hub:name", "hub:a/b/c/d", "hub:a/b@", "hub:a/ b"])
def test_a_malformed_hub_reference(complaint, reference):
    assert complaint(reference) == (
        f"data.train: {reference!r}: expected hub:OWNER/NAME, hub:OWNER/NAME/CONFIG, with @SPLIT if wanted"
    )


@pytest.mark.parametrize(
    ("reference", "line"),
    [
        ("package:tledge", "'package:tledge': expected package:NAME/PATH, such as package:my-data/train.csv"),
        (
            "package:no-such-package-here/rows.csv",
            "'package:no-such-package-here/rows.csv': the package 'no-such-package-here' is not installed; run: pip "
            "install no-such-package-here",
        ),
        (
            "package:tledge/../secret.csv",
            "'package:tledge/../secret.csv': the path leads out of the package; write one inside it, with '/'",
        ),
        (
            "package:tledge//etc/passwd",
            "'package:tledge//etc/passwd': the path leads out of the package; write one inside it, with '/'",
        ),
        (
            "package:tledge/metric.py",
            "'package:tledge/metric.py': the package 'tledge' has no 'metric.py'; did you mean 'metrics.py'?",
        ),
    ],
)
def test_a_package_reference_that_leads_nowhere(complaint, reference, line):
    assert complaint(reference) == line


def test_a_package_file_of_no_known_format(complaint):
    assert complaint("package:tledge/metrics.py").startswith("data.train: 'metrics.py' is of no known format")
    folder = Path(tledge.__file__).parent / "data"
    assert complaint("package:tledge/data").startswith(f"data.train: there is no image in {folder}")


def test_all_rows_broken(write, complaint):
    line = complaint(write("rows.csv", HEAD + "one\ntwo\n"), on_error="skip")
    assert line == (
        "rows.csv has no usable row: 2 are broken, such as rows.csv:2: expected 2 cells as in the header, got 1"
    )
    line = complaint(write("rows.jsonl", "oops\n"), on_error="skip")
    assert line == (
        "rows.jsonl has no usable row: 1 are broken, such as rows.jsonl:1: no JSON at column 1: Expecting value"
    )


def test_a_message_stays_short_whatever_the_file_holds(write, complaint):
    wide = json.dumps({f"column {i}": "x" * 500 for i in range(500)})
    assert len(complaint(write("rows.jsonl", wide))) < 400
    assert len(complaint(write("rows.csv", HEAD + f"one,{'y' * 5000}\n"), labels=["a", "b"])) < 400
    odd = json.dumps({"text": ["z" * 9000], "label": "a"})
    assert len(complaint(write("rows.jsonl", odd))) < 400


def test_one_text_with_every_label_is_told_to_be_one(write, complaint):
    write("rows.csv", [("the same text", "ab"[i % 2]) for i in range(60)])
    assert complaint() == (
        "the label 'b' keeps none of its rows in rows.csv: each of them is equal to an earlier row, of the same or "
        "another label, or to one that is held out; look at what stands in the input's column"
    )


@pytest.mark.parametrize(
    ("label", "hint"),
    [
        ("{}.5", " (60 labels in 60 rows look like numbers: is this a regression?)"),
        ("u{}", " (60 labels in 60 rows look like ids: is this the column of labels?)"),
    ],
)
def test_a_label_of_nearly_every_row_is_asked_about(write, complaint, label, hint):
    write("rows.csv", [(f"text number {i}", label.format(i)) for i in range(60)])
    assert complaint().endswith(hint)
    write("rows.csv", [(f"text number {i}", label.format(i if i == 0 else i % 4 + 1)) for i in range(60)])
    assert complaint().endswith("data.validation and data.test"), "few labels, of which one is rare"
