"""SQuAD files as rows, and those that are none."""

import gzip
import json

import pytest

from tledge.data.sources import Options, open_source
from tledge.errors import DataError
from tledge.tables import open_table, whole_rows

CONTEXT = "Denver lies on the plains 😀 east of the Rocky Mountains."
QUESTIONS = [
    {"id": "q1", "question": "Where does Denver lie?", "answers": [{"text": "on the plains", "answer_start": 12}]},
    {"id": "q2", "question": "Who lives there?", "is_impossible": True, "answers": [], "plausible_answers": [{}]},
    {"id": "q3", "question": "Not answered yet?"},
]
FILE = {"version": "v2.0", "data": [{"title": "Denver", "paragraphs": [{"context": CONTEXT, "qas": QUESTIONS}]}]}


@pytest.fixture
def rows(tmp_path):
    def rows(content, name="dev.json"):
        text = json.dumps(content, ensure_ascii=False).encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        return list(open_source(name, "data.train", Options(), base=tmp_path).read(None))

    return rows


@pytest.mark.parametrize("name", ["dev.json", "DEV.json.gz"])
def test_each_question_is_a_row_with_the_hubs_columns(rows, name):
    first, second, third = rows(FILE, name)
    assert first.name == f"{name}:data[0].paragraphs[0].qas[0]"
    assert first.cells == {
        "id": "q1", "title": "Denver", "context": CONTEXT, "question": "Where does Denver lie?",
        "answers": {"text": ["on the plains"], "answer_start": [12]},
    }  # fmt: skip
    assert second.cells["answers"] == {"text": [], "answer_start": []}
    assert third.cells["answers"] is None


def test_a_device_reads_the_same_rows(rows, tmp_path):
    expected = [row.cells for row in rows(FILE)]
    source = open_table(tmp_path / "dev.json")
    assert [row.cells for row in whole_rows(source)] == expected
    assert source.done() == source.size == 3


@pytest.mark.parametrize(
    ("paragraphs", "kind", "place"),
    [
        ([None], "malformed paragraph", "data[0].paragraphs[0]"),
        ("text", "malformed paragraph", "data[0].paragraphs[0]"),
        ([{"context": CONTEXT, "qas": {}}], "malformed paragraph", "data[0].paragraphs[0]"),
        ([{"context": CONTEXT, "qas": ["Where?"]}], "malformed question", "data[0].paragraphs[0].qas[0]"),
        ([{"context": CONTEXT, "qas": [{"answers": {}}]}], "malformed answers", "data[0].paragraphs[0].qas[0]"),
        ([{"context": CONTEXT, "qas": [{"answers": ["x"]}]}], "malformed answers", "data[0].paragraphs[0].qas[0]"),
    ],
)
def test_what_is_no_question_is_a_broken_row_with_its_place(rows, paragraphs, kind, place):
    (row,) = rows({"data": [{"paragraphs": paragraphs}]})
    assert (row.problem.kind, row.name) == (kind, f"dev.json:{place}")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"data": [', "dev.json:1: no JSON at column"),
        (
            b'{"text": "a"}\n{"text": "b"}\n',
            "dev.json:2: no JSON at column 1: Extra data; one object a line is a .jsonl",
        ),
        (b'[{"question": "a"}]', "expected a SQuAD file"),
        (b'{"data": {"paragraphs": []}}', "expected a SQuAD file"),
        (b'{"data": [{"question": "a"}]}', "expected a SQuAD file"),
        (b'{"data": []}', "dev.json has no question"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_a_file_that_is_no_squad_file_is_refused_in_one_line(tmp_path, content, expected):
    (tmp_path / "dev.json").write_bytes(content)
    with pytest.raises(DataError) as error:
        open_source("dev.json", "data.train", Options(), base=tmp_path)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
