import hashlib
import json

import numpy as np
import pytest

from tledge import answers, bundle, inputs, tasks
from tledge.errors import DataError
from tledge.gate import rows
from tledge.gate.budget import RowsFile

LABELS = ("negative", "neutral", "positive")


@pytest.fixture
def read(tiny_bundle, tmp_path):
    manifest, encoder = bundle.load(tiny_bundle), inputs.load("text", tiny_bundle)

    def of(name, text, **changes):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return rows.read(RowsFile(path, **changes), changes.pop("manifest", manifest), encoder)

    return of


def digits(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.csv", 'text,label\n"the train, late",negative\ngood,positive\n'),
        ("rows.tsv", "text\tlabel\nthe train, late\tnegative\ngood\tpositive\n"),
        (
            "rows.jsonl",
            '{"text": "the train, late", "label": "negative"}\n\n{"text": "good", "label": "positive", "x": 1}\n',
        ),
        ("rows.CSV", '\ufefflabel,text\nnegative,"the train, late"\n positive ,good\n'),
    ],
)
def test_rows_of_every_kind_of_file_are_the_same(read, name, text):
    found = read(name, text)
    assert found.values == ("the train, late", "good")
    assert found.labels == (("negative",), ("positive",))
    assert found.targets(tasks.load("text_classification"), LABELS).tolist() == [0, 2]
    assert answers.hexadecimal(found.hashes) == tuple(sorted((digits("the train, late"), digits("good"))))
    assert found.name == name


def test_columns_and_labels_may_have_other_names(read):
    found = read(
        "rows.csv", "said,mood\ngood,1\nbad,0\n",
        columns={"text": "said", "label": "mood"}, label_names={"0": "negative", "1": "positive"},
    )  # fmt: skip
    assert found.labels == (("positive",), ("negative",))


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("rows.csv", "said,label\ngood,positive\n", "rows.csv:2: there is no column 'text'; there are 'said', 'label'"),
        ("rows.csv", "text,label\ngood,positive\nbad,negativ\n", "rows.csv:3: the label 'negativ' is not the bundle's"),
        ("rows.csv", "text,label\ngood,\n", "rows.csv:2: the column 'label' is empty"),
        ("rows.csv", "text,label\n,positive\n", "rows.csv:2: the column 'text' holds '', expected a text"),
        ("rows.csv", "text,label\ngood\n", "rows.csv:2: expected 2 cells as in the header, got 1"),
        ("rows.csv", "text,label\na,b,c\n", "rows.csv:2: expected 2 cells as in the header, got 3"),
        ("rows.csv", 'text,label\n"good"x,positive\n', "rows.csv:2: ',' expected after"),
        ("rows.csv", "text,label\n", "has no row"),
        ("rows.csv", "", "expected a header with the columns' names, got an empty file"),
        ("rows.jsonl", '{"text": "good", "label": "positive"}\n{"text":\n', "rows.jsonl:2: no JSON at column"),
        ("rows.jsonl", "[1]\n", "rows.jsonl:1: expected a JSON object, got a list"),
        ("rows.jsonl", '{"text": 3, "label": "positive"}\n', "rows.jsonl:1: the column 'text' holds 3"),
        ("rows.jsonl", '{"text": "good", "label": null}\n', "rows.jsonl:1: the column 'label' is empty"),
        ("rows.jsonl", '{"text": "good", "label": ["positive"]}\n', "expected one label"),
        ("rows.parquet", "", "a table ends in one of .csv"),
    ],
)
def test_each_mistake_names_its_line(read, name, text, problem):
    with pytest.raises(DataError) as error:
        read(name, text)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"text_pair": "label"}, "evaluation.text_pair: text_classification has no such column; it has text, label"),
        ({"text": "label"}, "evaluation: text and label must be columns of their own, got label, label"),
    ],
)
def test_columns_that_the_task_has_not_or_twice_are_refused(read, columns, problem):
    with pytest.raises(DataError, match=problem):
        read("rows.csv", "text,label\ngood,positive\n", columns=columns)


def test_empty_columns_at_the_end_are_passed_over(read):
    assert read("rows.csv", "text,label,,\ngood,positive,,\n").values == ("good",)


def test_a_misspelt_label_gets_a_hint(read):
    with pytest.raises(DataError, match=r"did you mean 'negative'\?; rename it with evaluation.label_names"):
        read("rows.csv", "text,label\nbad,negativ\n")


def test_files_that_cannot_be_read_are_told(read, tiny_bundle, tmp_path):
    manifest, encoder = bundle.load(tiny_bundle), inputs.load("text", tiny_bundle)
    with pytest.raises(DataError, match="no such file"):
        rows.read(RowsFile(tmp_path / "none.csv"), manifest, encoder)
    (tmp_path / "latin.csv").write_bytes(b"text,label\n\xe9,positive\n")
    with pytest.raises(DataError, match="the byte 0xe9 is not utf-8; save the file as UTF-8"):
        rows.read(RowsFile(tmp_path / "latin.csv"), manifest, encoder)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        rows.read(RowsFile(tmp_path / "folder.csv"), manifest, encoder)


def other_task(tiny, tmp_path, task, problem_type):
    tiny.write(tmp_path / task, task=task, problem_type=problem_type)
    return bundle.load(tmp_path / task), inputs.load("text", tmp_path / task)


def test_rows_with_several_labels(tiny, tmp_path):
    manifest, encoder = other_task(tiny, tmp_path, "text_multilabel", "multi_label_classification")
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "label": ["negative", "positive"]}\n{"text": "b", "label": "neutral|positive"}\n'
                    '{"text": "c", "label": []}\n')  # fmt: skip
    found = rows.read(RowsFile(path), manifest, encoder)
    assert found.targets(tasks.load(manifest.task), LABELS).tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 0]]


def test_rows_with_numbers(tiny, tmp_path):
    manifest, encoder = other_task(tiny, tmp_path, "text_regression", "regression")
    path = tmp_path / "rows.csv"
    path.write_text("text,label\na,1.5\nb,-2\n")
    found = rows.read(RowsFile(path), manifest, encoder)
    assert found.targets(tasks.load(manifest.task), ("score",)).tolist() == [1.5, -2]
    path.write_text("text,label\na,1.5\nb,much\n")
    with pytest.raises(DataError, match=r"rows\.csv:3: the column 'label' holds 'much', expected a finite number"):
        rows.read(RowsFile(path), manifest, encoder)


def test_paths_of_images_start_from_the_files_folder(tiny_image_bundle, photos):
    manifest, encoder = bundle.load(tiny_image_bundle), inputs.load("image", tiny_image_bundle)
    path = photos / "rows.csv"
    path.write_text("image,label\nred.jpg,red\nmore/green.png,green\n")
    found = rows.read(RowsFile(path), manifest, encoder)
    assert found.values == (photos / "red.jpg", photos / "more/green.png")
    content = (photos / "red.jpg").read_bytes()
    assert answers.hash_of({"bytes": content, "path": None}) == answers.hash_of(
        {"bytes": None, "path": photos / "red.jpg"}
    )
    assert answers.hash_of(content) == int(found.hashes[0])
    path.write_text("image,label\nred.jpg,red\nnone.png,green\nnotes.txt,red\n")
    with pytest.raises(DataError, match=r"rows\.csv:3: .*none\.png"):
        rows.read(RowsFile(path), manifest, encoder)


def test_answers_survive_a_file(tmp_path):
    rng = np.random.default_rng(0)
    hashes, targets = answers.hashes_of(["a", "b"]), np.array([1, 0])
    outputs = {name: {"logits": rng.normal(size=(2, 3)).astype(np.float32)} for name in ("fp32", "int8_dynamic")}
    answers.save(tmp_path, hashes, targets, outputs)
    found = answers.read(tmp_path, "int8_dynamic")
    assert found.hashes.tolist() == hashes.tolist()
    assert found.targets.tolist() == [1, 0]
    assert np.array_equal(found.records["logits"], outputs["int8_dynamic"]["logits"])
    assert answers.read(tmp_path, "fp16") is None
    assert answers.read(tmp_path / "none", "fp32") is None


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04half"])
def test_damaged_answers_are_told(tmp_path, content):
    (tmp_path / answers.FILE).write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        answers.read(tmp_path, "fp32")


def test_a_join_keeps_the_rows_of_both_in_the_first_ones_order():
    def given(texts):
        scores = np.array([[len(text), ord(text[0])] for text in texts], dtype=np.float32)
        return answers.Answers(answers.hashes_of(texts), np.array([ord(text[0]) for text in texts]), {"logits": scores})

    ours, theirs = answers.join(given(["d", "a", "b", "a", "c"]), given(["b", "x", "c", "d", "a"]))
    for each in (ours, theirs):
        assert each.hashes.tolist() == answers.hashes_of(["d", "a", "b", "c"]).tolist()
        assert [chr(target) for target in each.targets] == ["d", "a", "b", "c"]
        assert [chr(int(score)) for score in each.records["logits"][:, 1]] == ["d", "a", "b", "c"]


def test_a_run_stores_its_answers_and_its_bundle_names_its_calibration_rows(finished):
    variants = json.loads((finished.run / "quantize" / "variants.json").read_text())
    manifest = bundle.load(finished.run / "bundle")
    task = tasks.load(manifest.task)
    for variant in variants:
        found = answers.read(finished.run / "quantize", variant["name"])
        metrics = task.score(found.records, found.targets)
        assert metrics == pytest.approx(variant["test_metrics"])
        assert len(found.hashes) == manifest.provenance.rows["test"]
    assert len(manifest.provenance.calibration) == manifest.provenance.rows["calibration"]
    assert all(len(digits) == 16 for digits in manifest.provenance.calibration)
    assert not set(manifest.provenance.calibration) & set(answers.hexadecimal(found.hashes))
