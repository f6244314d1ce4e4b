"""SQuAD files: articles with paragraphs, each with questions about it and where their answers stand in it.

A row is a question, with the columns of the hub's data set of that name: `id`, `title`, `context`, `question`, and
`answers`, a mapping of `text` and `answer_start` (in code points), both lists. Version 2.0 has questions without an
answer, whose lists are empty (Rajpurkar et al. 2016; Rajpurkar, Jia and Liang 2018).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tledge.errors import DataError
from tledge.tables.source import Options, Row, Source, broken, open_text

SUFFIXES = (".json",)

COLUMNS = ("id", "title", "context", "question", "answers")

_EXPECTED = (
    'expected a SQuAD file, {"data": [{"paragraphs": [{"context": ..., "qas": [{"question": ..., "answers": ...}]}]}]}'
    "; rows of other kinds are written one JSON object a line (.jsonl)"
)


def open_file(path: Path, options: Options) -> Source:
    """The questions of a SQuAD file, which is read whole; each is named by its place in it.

    Raises:
        DataError: the file is no JSON, or none of that shape.
    """
    text = open_text(path, options.encoding, newline="\n")
    whole = "".join(text.lines)
    try:
        found = json.loads(whole)
    except json.JSONDecodeError as error:
        many = "; one object a line is a .jsonl file" if error.msg == "Extra data" else ""
        raise DataError(f"{path.name}:{error.lineno}: no JSON at column {error.colno}: {error.msg}{many}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name}: no JSON that can be read: {error}") from error
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

    read_as = f"in {text.encoding}" if text.encoding != options.encoding else ""
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
