"""This process among others."""

from __future__ import annotations

import os
from unittest import mock

import pytest

from tledge import processes


@pytest.mark.parametrize(("rank", "is_main"), [(None, True), ("0", True), ("1", False)])
def test_the_first_process_writes(monkeypatch, rank, is_main):
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    assert processes.is_main() is is_main


def test_count_of_processes(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert processes.count() == 1
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert processes.count() == 4


@pytest.mark.parametrize(("before", "after"), [(None, "10000"), ("7", "7")])
def test_idle_threads_sleep_soon_unless_the_user_said_otherwise(before, after):
    with mock.patch.dict(os.environ, {} if before is None else {"GOMP_SPINCOUNT": before}):
        if before is None:
            os.environ.pop("GOMP_SPINCOUNT", None)
        processes.let_idle_threads_sleep()
        assert os.environ["GOMP_SPINCOUNT"] == after
