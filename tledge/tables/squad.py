"""SQuAD files: articles with paragraphs, each with questions about it and where their answers stand in it.

A row is a question, with the columns of the hub's data set of that name: `id`, `title`, `context`, `question`, and
`answers`, a mapping of `text` and `answer_start` (in code points), both lists. Version 2.0 has questions without an
answer, whose lists are empty (Rajpurkar et al. 2016; Rajpurkar, Jia and Liang 2018).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tledge.errors import DataError
from tledge.tables.source import Row, Source, broken

COLUMNS = ("id", "title", "context", "question", "answers")

_EXPECTED = (
    'expected a SQuAD file, {"data": [{"paragraphs": [{"context": ..., "qas": [{"question": ..., "answers": ...}]}]}]}'
    "; rows of other kinds are written one JSON object a line (.jsonl)"
)


def source(path: Path, found: Any, read_as: str = "") -> Source:
    """The questions of a SQuAD file, each named by its place in it.

    Args:
        path: the file.
        found: what it holds.
        read_as: how it was read, where that is not the usual.

    Raises:
        DataError: it is not of that shape.
    """
    articles = found.get("data") if isinstance(found, dict) else None
    if not isinstance(articles, list) or not all(isinstance(each, dict) and "paragraphs" in each for each in articles):
        raise DataError(f"{path.name}: {_EXPECTED}")
    rows = list(_rows(path.name, articles))
    if not rows:
        raise DataError(f"{path.name} has no question; {_EXPECTED}")
    number = 0

    def read(wanted: object) -> Iterator[Row]:  # noqa: ARG001
        nonlocal number
        for row in rows:
            number += 1
            yield row

    return Source(path.name, COLUMNS, read, len(rows), lambda: number, path, read_as=read_as)


def _rows(file: str, articles: list[dict[str, Any]]) -> Iterator[Row]:
    for i, article in enumerate(articles):
        for j, paragraph in enumerate(_list(article.get("paragraphs"))):
            place = f"{file}:data[{i}].paragraphs[{j}]"
            if not isinstance(paragraph, dict) or not isinstance(paragraph.get("qas"), list):
                yield broken(place, "malformed paragraph", "expected an object with context and a list qas")
                continue
            for k, question in enumerate(paragraph["qas"]):
                yield _row(f"{place}.qas[{k}]", article, paragraph, question)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _row(name: str, article: Mapping[str, Any], paragraph: Mapping[str, Any], question: object) -> Row:
    if not isinstance(question, dict):
        return broken(name, "malformed question", "expected an object with question and answers")
    answers = question.get("answers")
    if answers is not None:
        if not isinstance(answers, list) or not all(isinstance(each, dict) for each in answers):
            return broken(name, "malformed answers", "expected answers, a list of objects with text and answer_start")
        answers = {key: [each.get(key) for each in answers] for key in ("text", "answer_start")}
    cells = {
        "id": question.get("id"),
        "title": article.get("title"),
        "context": paragraph.get("context"),
        "question": question.get("question"),
        "answers": answers,
    }
    return Row(name, cells)
