"""What is on disk and in memory: rows stream through, and nothing is left elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import datasets
import pytest
from labelled_rows import labelled

from tledge import tasks
from tledge.data import open_splits, table
from tledge.data.sources import Row, Source
from tledge.errors import DataError
from tledge.recipe.schema import Data

TASK = tasks.load("text_classification")


class Endless:
    """A source whose rows are made when they are asked for, and counted."""

    def __init__(self, n_rows, text="row {}"):
        self.n_rows, self.text, self.n_made = n_rows, text, 0

    def rows(self, wanted):
        for i in range(self.n_rows):
            self.n_made += 1
            yield Row(f"made:{i + 1}", {"text": self.text.format(i), "label": str(i % 3)})

    def source(self):
        return Source("made", ("text", "label"), self.rows, self.n_rows, lambda: self.n_made)


def test_rows_are_read_one_by_one(tmp_path):
    endless, made_at = Endless(200_000), []

    @contextmanager
    def progress(description, total):
        assert (description, total) == ("Reading made", 200_000)
        yield lambda count: made_at.append(endless.n_made)

    read = table.read(
        endless.source(), Data(train="x"), TASK, known_labels=None, path=tmp_path / "rows.arrow", progress=progress
    )
    assert made_at[:3] == [table.BATCH, 2 * table.BATCH, 3 * table.BATCH]
    assert len(read.labels) == len(read.rows) == len(read.digests) == 200_000
    assert read.name(199_999) == "made:200000"
    assert read.labels.counts(3).tolist() == [66_667, 66_667, 66_666]


def test_reading_stops_at_the_first_broken_row(tmp_path):
    endless = Endless(200_000, text=" ")
    with pytest.raises(DataError, match="made:1: the column 'text' is empty"):
        table.read(
            endless.source(),
            Data(train="x"),
            TASK,
            known_labels=None,
            path=tmp_path / "rows.arrow",
            progress=lambda *_, **__: no_bar(),
        )
    assert endless.n_made == 1


@contextmanager
def no_bar():
    yield lambda count: None


def test_texts_do_not_stay_in_memory(write, run):
    line = ("x" * 300 + " ") * 100
    write("rows.csv", "text,label\n" + "".join(f"{i} {line},{i % 2}\n" for i in range(3_000)))
    tracemalloc.start()
    try:
        splits = run(calibration=10)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(splits.report.rows.values()) == 3_000
    assert peak < 30_000_000 < 3_000 * len(line) / 2, peak


def test_the_folder_holds_the_splits_and_the_report_alone(write, run, tmp_path):
    write("rows.csv", labelled(40))
    run()
    names = {"train.arrow", "validation.arrow", "calibration.arrow", "test.arrow", "data.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names


def test_a_failure_leaves_nothing(write, complaint, tmp_path):
    write("rows.csv", [*labelled(40), ("", "bad")])
    complaint()
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="cannot see which files are open")
def test_scratch_files_are_closed_before_they_are_removed(write, run, monkeypatch):
    """A file that is still mapped cannot be removed on Windows."""
    write("rows.csv", labelled(40))
    write("test.csv", labelled(9, start=50))
    removed, still_open, rmtree = [], [], shutil.rmtree

    def watched(path, *args, **keys):
        removed.append(path)
        still_open.extend(
            line for line in Path("/proc/self/maps").read_text().splitlines() if f"{path}{os.sep}" in line
        )
        return rmtree(path, *args, **keys)

    monkeypatch.setattr(shutil, "rmtree", watched)
    run(test="test.csv")
    assert len(removed) == 1 and still_open == []


def test_splits_stay_readable_while_others_take_their_place(write, run):
    write("rows.csv", labelled(4000))
    before = run(seed=1)
    texts = list(before.train["text"])
    write("rows.csv", labelled(40, start=9000))
    assert len(run(seed=2).train) < 40
    assert list(before.train["text"]) == texts


def test_the_run_may_be_moved(write, run, tmp_path):
    write("rows.csv", labelled(40))
    texts = list(run().train["text"])
    (tmp_path / "out").rename(tmp_path / "moved")
    assert list(open_splits(tmp_path / "moved").train["text"]) == texts
    assert str(tmp_path) not in (tmp_path / "moved" / "data.json").read_text()


SCRIPT = """
import sys
from pathlib import Path
from tledge import tasks
from tledge.data import load, open_splits, preview
from tledge.recipe.schema import Data

base = Path(sys.argv[1])
for name in ("rows.csv", "rows.jsonl", "rows.parquet"):
    preview(name, base=base)
    made = load(Data(train=name), tasks.load("text_classification"), seed=1, folder=base / "out", base=base)
    print(len(made.train))
    open_splits(base / "out").train.with_format("numpy")[:4]
"""


def test_local_files_leave_no_cache_elsewhere(write, tmp_path):
    rows = labelled(40)
    write("rows.csv", rows)
    write("rows.jsonl", "".join(f'{{"text": "{text}", "label": "{label}"}}\n' for text, label in rows))
    texts, labels = zip(*rows, strict=True)
    datasets.Dataset.from_dict({"text": texts, "label": labels}).to_parquet(tmp_path / "rows.parquet")
    home = tmp_path / "home"
    home.mkdir()
    places = {
        "HOME": home,
        "USERPROFILE": home,
        "XDG_CACHE_HOME": home / "xdg",
        "HF_HOME": home / "hf",
        "HF_DATASETS_CACHE": home / "hf" / "datasets",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env=os.environ | {name: str(path) for name, path in places.items()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["26"] * 3
    assert done.stderr == ""
    assert list(home.rglob("*")) == []


@pytest.mark.parametrize("shown", [True, False])
def test_bars_of_the_library_are_as_they_were(write, run, shown):
    write("rows.csv", labelled(40))
    before = datasets.are_progress_bars_disabled()
    try:
        (datasets.enable_progress_bars if shown else datasets.disable_progress_bars)()
        run()
        assert datasets.are_progress_bars_disabled() is not shown
    finally:
        (datasets.disable_progress_bars if before else datasets.enable_progress_bars)()
