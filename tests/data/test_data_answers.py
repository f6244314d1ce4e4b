"""Questions with their answers as rows of splits: whatever way they are written, and what is wrong with some."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tledge import tasks
from tledge.data import open_splits

TASK = tasks.load("question_answering")
TOWNS = ("Denver", "Oslo", "Lima", "Quito", "Cairo", "Pune", "Turin", "Ghent", "Leeds", "Basel")


def row(i, question=0, **cells):
    town = TOWNS[i % len(TOWNS)]
    context = f"Number {i}: the town {town} 😀 has {i + 3} bridges."
    asked, answer = (("Which town?", town), ("How many?", str(i + 3)))[question]
    return {"id": f"{i}.{question}", "question": asked, "context": context, "answers": of(context, answer)} | cells


def of(context, *answers):
    return {"text": list(answers), "answer_start": [context.index(answer) for answer in answers]}


ROWS = [row(i, question) for i in range(30) for question in (0, 1)]


def lines(rows):
    return "".join(json.dumps(each) + "\n" for each in rows)


@pytest.fixture
def answered(run):
    """Runs the room and gives it with each training row's answers, by question and context."""

    def answered(train, **keys):
        splits = run(train, task="question_answering", validation=0.2, test=0.2, **keys)
        every = [r for s in (splits.train, splits.validation, splits.test) for r in s]
        found = {}
        for each in every:
            (target,) = TASK.targets([each["label"]], 1)
            texts = [("".join(map(chr, a[2 : 2 + a[1]])), int(a[0])) for a in target if a[0] >= 0]
            found[each["question"], each["context"]] = texts
            assert all(each["context"][start : start + len(text)] == text for text, start in texts)
        return splits, found

    return answered


def expected(rows):
    return {
        (each["question"], each["context"]): list(
            zip(each["answers"]["text"], each["answers"]["answer_start"], strict=True)
        )
        for each in rows
    }


def test_json_lines_parquet_and_squad_files_give_the_same_rows(write, tmp_path, answered):
    write("rows.jsonl", lines(ROWS))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    single = [
        {"question": r["question"], "context": r["context"], "answer": r["answers"]["text"][0],
         "answer_start": r["answers"]["answer_start"][0]}
        for r in ROWS
    ]  # fmt: skip
    write("one.jsonl", lines(single))
    with (tmp_path / "one.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, single[0])
        table.writeheader()
        table.writerows(single)
    contexts = {}
    for each in ROWS:
        answers = [
            dict(zip(each["answers"], pair, strict=True)) for pair in zip(*each["answers"].values(), strict=True)
        ]
        contexts.setdefault(each["context"], []).append({"question": each["question"], "answers": answers})
    paragraphs = [{"context": context, "qas": questions} for context, questions in contexts.items()]
    write("rows.json", json.dumps({"data": [{"title": "towns", "paragraphs": paragraphs}]}))
    fingerprints = set()
    for name in ("rows.jsonl", "rows.parquet", "rows.json", "one.jsonl", "one.csv"):
        splits, found = answered(name, columns={"answers": "answer"} if name.startswith("one") else {})
        assert found == expected(ROWS)
        assert splits.labels == ("answer",)
        fingerprints.add(splits.fingerprint)
    assert len(fingerprints) == 1


def test_questions_of_one_context_stay_together(write, answered):
    splits, _ = answered(write("rows.jsonl", lines(ROWS)))
    contexts = [set(part["context"]) for part in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, contexts)) == 30
    assert all(len(part) > 1 for part in contexts)
    assert splits.report.group == "context"
    assert splits.report.groups["train"] == len(contexts[0])
    apart, _ = answered("rows.jsonl", group="id")
    assert apart.report.group == "id"
    assert set(apart.train["context"]) & set(apart.test["context"])


def test_your_own_files_may_ask_about_the_same_contexts(write, run):
    write("train.jsonl", lines(ROWS[::2]))
    write("test.jsonl", lines(ROWS[1::2]))
    splits = run("train.jsonl", task="question_answering", validation=0.2, test="test.jsonl")
    assert (len(splits.train) + len(splits.validation), len(splits.test)) == (30, 30)


def test_questions_without_an_answer_are_rows_without_a_label(write, answered):
    none = [row(i, answers={"text": [], "answer_start": []}) for i in range(30, 42)]
    splits, found = answered(write("rows.jsonl", lines([*ROWS, *none])))
    assert found == expected([*ROWS, *none])
    counts = splits.report.label_counts
    assert sum(counts[name]["answer"] for name in counts) == len(ROWS)
    assert 0 < counts["test"]["answer"] < splits.report.rows["test"]


def test_an_answer_elsewhere_is_mended_and_counted_and_one_that_is_nowhere_left_out(write, answered, tmp_path):
    moved = row(50) | {"answers": {"text": [TOWNS[0]], "answer_start": [1]}}
    lost = row(51) | {"answers": {"text": ["Paris"], "answer_start": [1]}}
    twice = row(52) | {"answers": {"text": ["e"], "answer_start": [0]}}
    empty = [row(53, context=" "), row(54) | {"question": ""}, row(55) | {"answers": None}]
    write("rows.jsonl", lines([*ROWS, moved, lost, twice, *empty]))
    splits, found = answered("rows.jsonl", on_error="skip")
    assert found[moved["question"], moved["context"]] == [(TOWNS[0], moved["context"].index(TOWNS[0]))]
    assert (splits.report.n_moved, splits.report.skipped) == (1, {"no label": 3, "empty text": 2})
    assert "'Paris' has place 1, and the context does not have it" in splits.report.skipped_examples[0]
    assert open_splits(tmp_path / "out").report.n_moved == 1


def test_a_wrong_place_stops_the_run_unless_rows_are_skipped(write, complaint):
    write("rows.jsonl", lines([*ROWS, row(51) | {"answers": {"text": ["Paris"], "answer_start": [1]}}]))
    line = complaint("rows.jsonl", task="question_answering")
    assert line.startswith("rows.jsonl:61: the column 'answers' holds")
    assert line.endswith("the context does not have it; mend the row, or set data.on_error: skip")


def test_answers_alone_are_not_enough(write, complaint):
    write("rows.jsonl", lines([row(i) | {"answers": {"text": [], "answer_start": []}} for i in range(20)]))
    assert "has no label in any of 20 rows" in complaint("rows.jsonl", task="question_answering")
    write("rows.jsonl", lines([{"question": "a?", "context": "b"}]))
    assert "has no column 'answers'" in complaint("rows.jsonl", task="question_answering")
