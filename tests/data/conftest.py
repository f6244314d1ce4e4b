"""Small labelled files, and the data room run on them."""

from __future__ import annotations

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
