"""Labels: found or given, renamed, one or several a row; and which columns they are read from."""

from __future__ import annotations

import gzip
import json

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labelled_rows import as_csv, labelled

MULTI = "text_multilabel"


def names_by_text(splits):
    """The label names of each text of all splits."""
    parts = (splits.train, splits.validation, splits.calibration, splits.test)
    return {row["text"]: [splits.labels[i] for i in row["label"]] for part in parts for row in part}


@pytest.mark.parametrize(
    ("found", "order"),
    [
        (("10", "9", "-1", "2.5"), ("-1", "2.5", "9", "10")),
        (("10", "9", "x"), ("10", "9", "x")),
        (("b", "B", "a"), ("B", "a", "b")),
        (("1", "1e1", "nan"), ("1", "1e1", "nan")),
    ],
)
def test_labels_are_sorted_numbers_by_value(write, run, found, order):
    write("rows.csv", labelled(40, found))
    splits = run()
    assert splits.labels == order == splits.report.labels
    assert names_by_text(splits)["text number 0"] == [found[0]]


def test_given_labels_are_in_their_order_and_each_row_has_its_own(write, run):
    rows = labelled(40, ("bad", "good", "fair"))
    write("rows.csv", rows)
    splits = run(labels=["good", "fair", "bad"])
    assert splits.labels == ("good", "fair", "bad")
    assert names_by_text(splits) == {text: [label] for text, label in rows}


def test_a_label_that_is_not_given_is_a_broken_row(write, run, complaint):
    write("rows.csv", [*labelled(40), ("odd", "godo")])
    line = (
        "rows.csv:42: the label 'godo' is not known; known are 'bad', 'good'; did you mean 'good'?; mend the row, or "
        "set data.on_error: skip"
    )
    assert complaint(labels=["bad", "good"]) == line
    assert run(labels=["bad", "good"], on_error="skip").report.skipped == {"unknown label": 1}


def test_a_label_of_the_users_own_test_file_must_be_known(write, complaint):
    write("rows.csv", labelled(40))
    write("test.csv", labelled(4, ("bad", "ugly"), start=100))
    assert complaint(test="test.csv") == (
        "test.csv:3: the label 'ugly' is not known; known are 'bad', 'good'; mend the row, or set data.on_error: skip"
    )


def test_a_given_label_without_rows(write, complaint):
    write("rows.csv", labelled(40))
    assert complaint(labels=["bad", "good", "fair"]) == (
        "the label 'fair' has no training rows in rows.csv; add rows of it, or leave it out of data.labels"
    )


def test_one_given_label(write, complaint):
    write("rows.csv", labelled(40, ("a",)))
    assert "has only one label, 'a', in 40 rows: the task needs two" in complaint(labels=["a"])


def test_a_label_of_broken_rows_alone_is_no_label(write, run):
    rows = [*labelled(40), ("half \ud83d", "odd"), (" ", "ugly")]
    write("rows.jsonl", "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    splits = run("rows.jsonl", on_error="skip")
    assert splits.labels == ("bad", "good")
    assert splits.report.skipped == {"undecodable text": 1, "empty text": 1}


def test_label_names_rename_and_merge(write, run):
    write("rows.csv", labelled(60, ("0", "1", "2")))
    splits = run(label_names={"0": "no", "1": "yes", "2": "yes"})
    assert splits.labels == ("no", "yes")
    assert sum(splits.report.label_counts[name]["yes"] for name in splits.report.rows) == 40


def test_a_label_name_that_no_row_uses(write, complaint):
    write("rows.csv", labelled(40))
    assert complaint(label_names={"Good": "fine"}) == (
        "data.label_names: no row has the label 'Good'; did you mean 'good'?"
    )


def test_several_labels_are_separated(write, run):
    cells = ["a", "b|a", "", "c| a |c", "b"]
    rows = [(f"text {i}", cells[i % 5]) for i in range(60)]
    write("rows.csv", rows)
    splits = run(task=MULTI)
    assert splits.labels == ("a", "b", "c")
    by_text = names_by_text(splits)
    assert [by_text[f"text {i}"] for i in range(5)] == [["a"], ["a", "b"], [], ["a", "c"], ["b"]]
    assert sum(counts["a"] for counts in splits.report.label_counts.values()) == 36
    write("rows.csv", [(text, cell.replace("|", ", ")) for text, cell in rows])
    assert names_by_text(run(task=MULTI, label_separator=",")) == by_text


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_several_labels_as_lists(write, run, tmp_path, name):
    lists = [["a"], ["b", "a"], [], ["c"], None]
    rows = [{"text": f"text {i}", "label": lists[i % 5]} for i in range(60)]
    if name.endswith("jsonl"):
        write(name, "".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    by_text = names_by_text(run(name, task=MULTI))
    assert [by_text[f"text {i}"] for i in range(5)] == [["a"], ["a", "b"], [], ["c"], []]


def test_no_row_has_a_label(write, complaint):
    write("rows.csv", [(f"text {i}", "") for i in range(9)])
    assert complaint(task=MULTI) == (
        "rows.csv has no label in any of 9 rows: the task needs two; look at data.columns.label"
    )


def test_columns_are_mapped(write, run):
    rows = [(i, label, text) for i, (text, label) in enumerate(labelled(40))]
    write("rows.csv", "id,sentiment,review\n" + "".join(f"{i},{label},{text}\n" for i, label, text in rows))
    splits = run(columns={"text": "review", "label": "sentiment"})
    assert names_by_text(splits) == {text: [label] for _, label, text in rows}
    assert splits.train.column_names == ["text", "label", "row"]


def test_label_and_text_may_change_places(write, run):
    write("rows.csv", "label,text\n" + "".join(f"{text},{label}\n" for text, label in labelled(40)))
    assert run(columns={"text": "label", "label": "text"}).labels == ("bad", "good")


@pytest.mark.parametrize("values", [[0, 1], [True, False], [0.0, 1.0]])
def test_typed_labels(run, tmp_path, values):
    pq.write_table(pa.table({"text": [f"t {i}" for i in range(40)], "label": values * 20}), tmp_path / "rows.parquet")
    splits = run("rows.parquet")
    assert splits.labels == tuple(sorted(map(str, values)))
    assert names_by_text(splits)["t 0"] == [str(values[0])]


def test_a_byte_order_mark_is_no_part_of_the_header(write, run):
    body = as_csv(labelled(40))
    write("rows.csv", b"\xef\xbb\xbf" + body.encode())
    for encoding in ("utf-8", "UTF_8", "utf-8-sig", "utf8", "U8"):
        assert run(encoding=encoding).labels == ("bad", "good")
    write("rows.csv", body.encode("utf-16"))
    assert run(encoding="utf-16").labels == ("bad", "good")


def test_every_text_format_gives_the_same(write, run):
    rows = [(f'café, "{i}"\nline two', label) for i, (_, label) in enumerate(labelled(40))]
    write("rows.csv", rows)
    write("rows.tsv", as_csv(rows).encode().replace(b",", b"\t").replace(b"caf\xc3\xa9\t", b"caf\xc3\xa9,"))
    write("rows.jsonl", "".join(json.dumps({"text": t, "label": n}, ensure_ascii=False) + "\n" for t, n in rows))
    write("rows.csv.gz", gzip.compress(as_csv(rows).encode()))
    write("latin.csv", as_csv(rows).encode("latin-1"))
    csv = run("rows.csv", folder="csv")
    others = [run("rows.tsv"), run("rows.jsonl"), run("rows.csv.gz"), run("latin.csv", encoding="latin-1")]
    assert {other.fingerprint for other in others} == {csv.fingerprint}
    assert run("rows.csv.gz").train[0]["row"].startswith("rows.csv.gz:")


def test_a_hub_data_set_has_class_names(run, monkeypatch):
    asked = []
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    made = datasets.Dataset.from_dict({"text": [f"t {i}" for i in range(40)], "label": [0, 1] * 20}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **keys: asked.append((args, keys)) or made)
    splits = run("hub:owner/name/config@train[:40]")
    assert splits.labels == ("no", "yes")
    assert names_by_text(splits) == {f"t {i}": [("no", "yes")[i % 2]] for i in range(40)}
    assert {row.rpartition(":")[0] for row in splits.test["row"]} == {"hub:owner/name/config@train[:40]"}
    assert asked == [(("owner/name", "config"), {"split": "train[:40]"})]


def test_a_hub_label_that_is_held_back_is_a_broken_row(run, complaint, monkeypatch):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    made = datasets.Dataset.from_dict({"text": ["one", "two"], "label": [0, -1]}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: made)
    assert complaint("hub:owner/name").startswith("hub:owner/name:2: the column 'label' is empty")


def test_a_file_inside_an_installed_package(write, run, tmp_path, monkeypatch):
    package = tmp_path / "site" / "reviews_for_a_test" / "rows"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "train.csv").write_text(as_csv(labelled(40)))
    monkeypatch.syspath_prepend(tmp_path / "site")
    splits = run("package:reviews_for_a_test/rows/train.csv")
    assert splits.labels == ("bad", "good")


def test_lists_written_as_text_are_lists(run, write):
    cells = ["\"['warm', 'a|b']\"", '"[""dry""]"', "[]", "[draft]", '"[""dry"", warm"'] * 8
    write("rows.csv", "text,label\n" + "".join(f"row number {i},{cell}\n" for i, cell in enumerate(cells)))
    labels = run(task="text_multilabel").labels
    assert labels == ('["dry", warm', "[draft]", "a|b", "dry", "warm"), "a list is read whole, and nothing else is one"


def test_decimal_commas_where_the_recipe_says_so(run, write, complaint):
    write("rows.csv", "text;label\n" + "".join(f"row number {i};{i % 5},{i % 4}5\n" for i in range(40)))
    quantiles = run(task="text_regression", decimal=",").report.target_quantiles["train"]
    assert (quantiles["p0"], quantiles["p100"]) == (0.05, 4.35)
    line = complaint(task="text_regression")
    assert line.startswith("rows.csv:2: the column 'label' holds '0,05', expected a finite number; for decimal commas ")
    write("rows.csv", "text;label\none;1.234,5\n")
    assert "holds '1.234,5', expected a decimal comma" in complaint(task="text_regression", decimal=",")
