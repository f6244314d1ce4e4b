"""From a recipe's sources to four disjoint splits."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tledge import data, tasks
from tledge.data.inputs.text import digest
from tledge.data.stored import SPLITS
from tledge.errors import DataError
from tledge.progress import Advance
from tledge.recipe.schema import Data

Rows = Callable[..., list[dict[str, Any]]]
Write = Callable[..., str]
Load = Callable[..., data.Splits]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a recipe's data section from the test's folder."""
    count = itertools.count()

    def run(task: str = "text_classification", seed: int = 1, **keys: Any) -> data.Splits:
        folder = tmp_path / f"out{next(count)}"
        return data.load(Data(**keys), tasks.load(task), seed=seed, folder=folder, base=tmp_path)

    return run


def texts(splits: data.Splits) -> dict[str, list[str]]:
    return {name: list(getattr(splits, name)["text"]) for name in SPLITS}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_gives_the_same_splits(
    tmp_path: Path, rows: Rows, csv_file: Write, jsonl_file: Write, load: Load, suffix: str
) -> None:
    made = rows(50)
    name = f"t.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(made), tmp_path / name, row_group_size=7)
    elif suffix == "jsonl":
        jsonl_file(name, made)
    else:
        csv_file(name, made, "\t" if suffix == "tsv" else ",")
    splits = load(train=name, calibration=4)
    assert splits.labels == ("greet", "leave")
    assert splits.report.rows == {"train": 28, "validation": 8, "calibration": 4, "test": 10}
    assert len(splits.fingerprint) == 64
    assert sorted(itertools.chain(*texts(splits).values())) == sorted(row["text"] for row in made)
    assert splits.report.sources["validation"] == name
    assert splits.report.n_read == {"train": 50}


def test_rows_keep_their_text_label_and_place(rows: Rows, csv_file: Write, load: Load) -> None:
    made = rows(40)
    splits = load(train=csv_file("t.csv", made))
    assert splits.train.column_names == ["text", "label", "row"]
    for name in SPLITS:
        for row in getattr(splits, name):
            original = made[int(row["row"].partition(":")[2]) - 2]
            assert (row["text"], [splits.labels[i] for i in row["label"]]) == (original["text"], [original["label"]])


def test_splits_are_disjoint_and_stratified(rows: Rows, csv_file: Write, load: Load) -> None:
    made = rows(300, ("a", "a", "a", "a", "a", "b", "b", "b", "c", "c"))
    splits = load(train=csv_file("t.csv", made), validation=40, test=0.2, calibration=20)
    assert splits.report.rows == {"train": 180, "validation": 40, "calibration": 20, "test": 60}
    assert splits.report.label_counts["test"] == {"a": 30, "b": 18, "c": 12}
    assert splits.report.label_counts["validation"] == {"a": 20, "b": 12, "c": 8}
    assert splits.report.label_counts["calibration"] == {"a": 10, "b": 6, "c": 4}
    held = texts(splits)
    for one, other in itertools.combinations(SPLITS, 2):
        assert not set(held[one]) & set(held[other])


def test_the_seed_decides_the_splits(rows: Rows, csv_file: Write, load: Load) -> None:
    name = csv_file("t.csv", rows(100))
    one, same, other = load(train=name, seed=3), load(train=name, seed=3), load(train=name, seed=4)
    assert texts(one) == texts(same)
    assert one.fingerprint == same.fingerprint
    assert texts(one)["test"] != texts(other)["test"]
    assert one.fingerprint != other.fingerprint


def test_open_splits_gives_what_load_wrote(tmp_path: Path, rows: Rows, csv_file: Write) -> None:
    csv_file("t.csv", rows(40))
    task, folder = tasks.load("text_classification"), tmp_path / "out"
    written = data.load(Data(train="t.csv"), task, seed=1, folder=folder, base=tmp_path)
    folder.rename(tmp_path / "moved")
    opened = data.open_splits(tmp_path / "moved")
    assert texts(opened) == texts(written)
    assert (opened.labels, opened.report) == (written.labels, written.report)
    assert len(opened.calibration) == 0
    files = {path.name for path in (tmp_path / "moved").iterdir()}
    assert files == {"data.json", *(f"{name}.arrow" for name in SPLITS)}


def test_duplicates_are_left_out_and_counted(rows: Rows, jsonl_file: Write, load: Load) -> None:
    made = [
        *rows(40),
        {"text": "good  day\t0 ", "label": "greet"},
        {"text": "good day 0", "label": "leave"},
        {"text": "caf\u00e9", "label": "greet"},
        {"text": "cafe\u0301", "label": "greet"},
    ]
    report = load(train=jsonl_file("t.jsonl", made)).report
    assert (report.n_read["train"], sum(report.rows.values())) == (44, 41)
    assert (report.duplicates, report.conflicts) == (2, 1)
    assert report.conflict_examples == ("t.jsonl:42 (leave), kept t.jsonl:1 (greet)",)


def test_digest_is_of_the_normalised_text() -> None:
    assert digest("a b") == digest(" a\n\u00a0b ")
    assert digest("\u00e9") == digest("e\u0301")
    assert digest("a b") != digest("ab")
    assert digest("A") != digest("a")


def test_an_overlap_with_the_own_test_file_fails(rows: Rows, csv_file: Write, load: Load) -> None:
    train, test = csv_file("train.csv", rows(40)), csv_file("test.csv", rows(10, start=38))
    with pytest.raises(DataError) as caught:
        load(train=train, test=test)
    assert str(caught.value) == (
        "2 train rows have the text of a test row, such as train.csv:40 = test.csv:2, train.csv:41 = test.csv:3; "
        "take them out of one file, or set data.on_overlap: drop to leave them out of the train rows"
    )


def test_an_overlap_can_be_dropped_from_the_training_rows(rows: Rows, csv_file: Write, load: Load) -> None:
    train, test = csv_file("train.csv", rows(40)), csv_file("test.csv", [*rows(10, start=38), *rows(1, start=38)])
    validation = csv_file("validation.csv", rows(8, start=46))
    splits = load(train=train, test=test, validation=validation, on_overlap="drop")
    assert splits.report.rows == {"train": 38, "validation": 6, "calibration": 0, "test": 11}
    assert splits.report.overlap_dropped == 4
    assert splits.report.repeated == {"validation": 0, "test": 1}
    assert splits.report.sources == {
        "train": "train.csv", "validation": "validation.csv", "calibration": "train.csv", "test": "test.csv"
    }  # fmt: skip
    held = texts(splits)
    assert not set(held["train"]) & {*held["test"], *held["validation"]}
    assert not set(held["validation"]) & set(held["test"])


def test_validation_and_test_files_may_not_overlap(rows: Rows, csv_file: Write, load: Load) -> None:
    train = csv_file("train.csv", rows(20))
    both = [csv_file(name, rows(4, start=20)) for name in ("v.csv", "t.csv")]
    with pytest.raises(DataError, match=r"4 validation rows have the text of a test row, such as v\.csv:2 = t\.csv:2"):
        load(train=train, validation=both[0], test=both[1])
    with pytest.raises(DataError, match=r"no row of v\.csv is left for validation"):
        load(train=train, validation=both[0], test=both[1], on_overlap="drop")


def test_nothing_left_to_train_on(rows: Rows, csv_file: Write, load: Load) -> None:
    name = csv_file("t.csv", rows(20))
    with pytest.raises(DataError, match=r"no row of t\.csv is left to train on"):
        load(train=name, test=name, on_overlap="drop")


def test_broken_rows_are_skipped_and_counted(jsonl_file: Write, rows: Rows, load: Load) -> None:
    bad = [{"text": " ", "label": "greet"}, {"text": "x"}, {"text": 5, "label": "greet"}, {"text": "y", "label": None}]
    splits = load(train=jsonl_file("t.jsonl", bad * 8 + rows(40)), on_error="skip")
    assert splits.report.skipped == {"empty text": 8, "missing column": 8, "no text": 8, "empty label": 8}
    assert len(splits.report.skipped_examples) == 20
    assert splits.report.skipped_examples[0] == "t.jsonl:1: the column 'text' is empty"
    assert splits.report.n_read["train"] == 72
    assert sum(splits.report.rows.values()) == 40


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"test": 20}, "data.test: asks for 20 rows, but there are 20"),
        ({"test": 19}, "data.test: asks for 19 rows, and too few of 20 rows would be left"),
        ({"test": 1}, "data.test: asks for 1 rows, too few to hold each of 2 labels; ask for 2 or more"),
        ({"test": 0.01}, "data.test: 0.01 of 20 rows is 1, too few to hold each of 2 labels; ask for 2 or more"),
        ({"test": 0.9, "validation": 0.5}, "data.validation: 0.5 of 20 rows is 10, but there are 2"),
        ({"calibration": 100}, "data.calibration: asks for 100 rows, but there are 13"),
    ],
)
def test_sizes_that_cannot_be_are_one_line(
    rows: Rows, csv_file: Write, load: Load, keys: dict[str, Any], said: str
) -> None:
    name = csv_file("t.csv", rows(20))
    with pytest.raises(DataError) as caught:
        load(**{"train": name} | keys)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_with_too_few_rows_is_named(rows: Rows, csv_file: Write, load: Load) -> None:
    train = csv_file("t.csv", [*rows(20), {"text": "ta", "label": "thank"}, {"text": "cheers", "label": "thank"}])
    with pytest.raises(DataError) as caught:
        load(train=train)
    assert str(caught.value).startswith(
        "the label 'thank' has 2 rows in t.csv; splitting it into train, test, validation takes 3 of each label"
    )
    own = {name: csv_file(f"{name}.csv", rows(4, start=100 + 10 * i)) for i, name in enumerate(("validation", "test"))}
    assert load(train=train, **own).report.label_counts["train"]["thank"] == 2


def test_rows_with_several_labels_are_stratified_by_the_rarest(rows: Rows, csv_file: Write, load: Load) -> None:
    name = csv_file("t.csv", rows(80, ("calm|big", "big", "big", "")))
    splits = load("text_multilabel", train=name)
    assert splits.report.rows["test"] == 16
    assert splits.report.label_counts["test"] == {"big": 12, "calm": 4}
    assert sum(not row for row in splits.test["label"]) == 4


def test_progress_counts_the_whole_file(tmp_path: Path, rows: Rows, csv_file: Write) -> None:
    seen: list[int] = []
    shown: list[tuple[str, int]] = []

    class Bar:
        def __init__(self, description: str, total: int) -> None:
            shown.append((description, total))

        def __enter__(self) -> Advance:
            return seen.append

        def __exit__(self, *_: object) -> None: ...

    csv_file("t.csv", rows(3000))
    task = tasks.load("text_classification")
    data.load(Data(train="t.csv"), task, seed=1, folder=tmp_path / "out", base=tmp_path, progress=Bar)
    size = (tmp_path / "t.csv").stat().st_size
    assert shown == [("Reading t.csv", size)]
    assert sum(seen) == size
    assert len(seen) == 4


def test_many_rows_go_through_in_batches(tmp_path: Path, load: Load) -> None:
    with (tmp_path / "t.csv").open("w") as file:
        file.write("text,label\n")
        file.writelines(f"row {i},{i % 7}\n" for i in range(50_000))
    splits = load(train="t.csv", calibration=200)
    assert sum(splits.report.rows.values()) == 50_000
    assert {name: len(getattr(splits, name)) for name in SPLITS} == splits.report.rows
    numbers = [int(text.removeprefix("row ")) for text in splits.train["text"]]
    assert [[number % 7] for number in numbers] == list(splits.train["label"])
    assert len(splits.train.data.to_batches()) > 20


def test_the_report_is_plain_json(tmp_path: Path, rows: Rows, csv_file: Write, load: Load) -> None:
    report = load(train=csv_file("t.csv", rows(40))).report
    stored = json.loads((tmp_path / "out0" / "data.json").read_text())
    assert stored["rows"] == report.rows
    assert stored["labels"] == ["greet", "leave"]
    assert len(stored["sha256"]["train"]) == 64
    assert stored["text_lengths"] == {"p0": 9, "p5": 9, "p50": 10, "p95": 11, "p99": 11, "p100": 11}
