"""This process among others: which one of several writes, and how soon its idle threads leave the cores alone."""

from __future__ import annotations

import os


def count() -> int:
    """How many processes train together, 1 when nobody started several."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the only one, or the first of several: the one that writes."""
    return os.environ.get("RANK", "0") == "0"


def let_idle_threads_sleep() -> None:
    """Have OpenMP's idle threads (torch's) sleep after some 10,000 turns of spinning instead of millions.

    Else they take the cores from the sessions that torch eager is compared with, run by run (`benchmarks/README.md` has
    the figures). Works before torch is loaded; a value that the user has set is kept.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
