"""This process: which one of several it is, how soon its idle threads leave the cores, what it does with memory."""

from __future__ import annotations

import ctypes
import os
import sys

_KEEP = ((-1, 2**31 - 1), (-3, 2**30))  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, in bytes


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


def keep_freed_memory() -> bool:
    """Have the C library keep memory that was freed instead of handing it back to the system; gives whether it does.

    A network's activations are freed and asked for again with every layer, and pages that come from the system are
    cleared first: without that an EfficientNet-Lite0 took 0.61 of the time in torch (`benchmarks/README.md`). The
    process's peak stays what it was. Only glibc has the setting; a user's own in the environment is kept.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return all(mallopt(option, value) == 1 for option, value in _KEEP)
