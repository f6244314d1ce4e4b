"""The checkpoint of a training: written aside, read back, and what goes wrong with it."""

import errno
import random
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tledge.errors import StorageError
from tledge.train import resume
from tledge.train.resume import Checkpoints, changing, on_host, put_back, random_state, remove, set_random_state

STATE = {"numbers": torch.arange(5), "nested": [{"text": "a", "one": torch.ones(2)}, (1, 2.5)], "none": None}


def test_what_was_written_is_read(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.read() is None
        checkpoints.write(STATE, step=3, of=9)
        checkpoints.write(STATE | {"numbers": torch.arange(6)}, step=4, of=9)
    found = Checkpoints(tmp_path).read()
    assert found["numbers"].tolist() == list(range(6))
    assert found["nested"][0]["text"] == "a"
    assert found["none"] is None
    assert {path.name for path in tmp_path.iterdir()} == {"resume.pt", "resume.json"}
    torch.save({"format": 0, "state": found}, tmp_path / "resume.pt")
    assert Checkpoints(tmp_path).read() is None
    remove(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_tensors_are_copied_when_they_are_handed_over(tmp_path):
    weights = torch.zeros(3)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.write({"weights": weights}, step=1, of=2)
        weights += 1
    assert Checkpoints(tmp_path).read()["weights"].tolist() == [0, 0, 0]
    copy = on_host({"weights": weights})
    weights += 1
    assert copy["weights"].tolist() == [1, 1, 1]


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    def refuse(*_):
        raise RuntimeError("unexpected pos 704 vs 598")

    monkeypatch.setattr(torch, "save", refuse)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(OSError, match=r"resume\.pt") as caught, checkpoints:
        checkpoints.write(STATE, step=1, of=2)
    assert caught.value.errno == errno.ENOSPC
    assert "the disk is full" in str(StorageError.of(caught.value))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    with pytest.raises(RuntimeError, match="unexpected pos"), Checkpoints(tmp_path) as checkpoints:
        checkpoints.write(STATE, step=1, of=2)


def test_what_went_wrong_first_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "save", lambda *_: 1 / 0)
    with pytest.raises(KeyError, match="first"), Checkpoints(tmp_path) as checkpoints:
        checkpoints.write(STATE, step=1, of=2)
        raise KeyError("first")


def test_one_a_minute_and_after_better_epochs_where_that_costs_little(tmp_path, monkeypatch):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(resume.time, "monotonic", lambda: now.seconds)
    monkeypatch.setattr(resume, "EVERY_S", 60.0)
    checkpoints = Checkpoints(tmp_path)
    assert not checkpoints.due()
    assert checkpoints.due(better=True)
    checkpoints._took = 1.0  # seconds that the last one took
    now.seconds = 19.0
    assert not checkpoints.due(better=True)
    now.seconds = 21.0
    assert checkpoints.due(better=True)
    assert not checkpoints.due()
    now.seconds = 60.0
    assert checkpoints.due()


def test_random_numbers_go_on(tmp_path):
    def drawn():
        return random.random(), np.random.rand(), torch.rand(1).item()

    state = random_state()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.write({"random": state}, step=1, of=2)
    expected = drawn()
    drawn()
    set_random_state(Checkpoints(tmp_path).read()["random"])
    assert drawn() == expected


def test_what_changes_is_what_trains_and_buffers():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    module[0].requires_grad_(False)
    found = changing(module)
    assert set(found) == {"1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"}
    kept = {name: each.clone() for name, each in found.items()}
    with torch.no_grad():
        module[1].weight += 1
    put_back(module, kept)
    assert module[1].weight.tolist() == [1, 1]
    with pytest.raises(ValueError, match="another module"):
        put_back(torch.nn.Linear(2, 2), kept)
