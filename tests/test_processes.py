"""This process among others."""

from __future__ import annotations

import os
import subprocess
import sys
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


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has the setting")
def test_freed_memory_is_kept():
    """A large block that is freed and asked for again costs no new pages, in a process of its own."""
    code = (
        "import resource, numpy as np\n"
        "from tledge import processes\n"
        "kept = processes.keep_freed_memory()\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "np.ones(8_000_000)\n"
        "before = faults()\n"
        "for _ in range(10): np.ones(8_000_000)\n"
        "print(kept, faults() - before)\n"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    for changes, expected in (({}, True), ({"MALLOC_ARENA_MAX": "2"}, False)):
        done = subprocess.run(
            [sys.executable, "-c", code], env=env | changes, capture_output=True, encoding="utf-8", check=True
        )
        kept, faults = done.stdout.split()
        assert kept == str(expected)
        assert (int(faults) < 1000) is expected  # a block has 15,625 pages
