"""Small labelled files, and the data room run on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from labelled_rows import as_csv

from tledge import tasks
from tledge.data import load
from tledge.errors import DataError
from tledge.recipe.schema import Data


@pytest.fixture
def write(tmp_path):
    """Writes a file into the folder that paths start from: text as UTF-8, bytes as they are, rows as CSV."""

    def write(name, content):
        if isinstance(content, list):
            content = as_csv(content)
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    return write


@pytest.fixture
def run(tmp_path):
    """Runs the room with a recipe's `data` keys into `folder`."""

    def run(train="rows.csv", *, task="text_classification", seed=42, folder="out", **keys):
        settings = Data(train=train, **keys)
        return load(settings, tasks.load(task), seed=seed, folder=tmp_path / folder, base=tmp_path)

    return run


@pytest.fixture
def complaint(run):
    """Runs the room and gives the one line that it complains with."""

    def complaint(*arguments, **keys):
        with pytest.raises(DataError) as error:
            run(*arguments, **keys)
        line = str(error.value)
        assert "\n" not in line
        return line

    return complaint


Rows = Callable[..., list[dict[str, Any]]]
Write = Callable[..., str]

GREETINGS = ("good day {}", "see you {}")


def made_rows(count: int, labels: tuple[Any, ...] = ("greet", "leave"), start: int = 0) -> list[dict[str, Any]]:
    """Distinct rows, the labels in turn."""
    return [{"text": GREETINGS[i % 2].format(i), "label": labels[i % len(labels)]} for i in range(start, start + count)]


@pytest.fixture
def rows() -> Rows:
    return made_rows


@pytest.fixture
def csv_file(tmp_path: Path) -> Write:
    """Writes rows to a CSV file and gives its name."""

    def write(name: str, rows: list[dict[str, Any]], delimiter: str = ",") -> str:
        lines = [delimiter.join(rows[0]), *(delimiter.join(str(cell) for cell in row.values()) for row in rows)]
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return name

    return write


@pytest.fixture
def jsonl_file(tmp_path: Path) -> Write:
    def write(name: str, rows: list[dict[str, Any]]) -> str:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return name

    return write
