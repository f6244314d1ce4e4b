"""The fresh process that `memory.footprint` starts.

`python -m tledge.bench.child GRAPH FEEDS PROVIDER THREADS` prints one line of JSON; when it fails,
one line of reason goes to the error stream and it exits with 1.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tledge.bench import memory, placement
from tledge.errors import TledgeError
from tledge.runtime.session import open_session, session_run


def facts(graph: Path, tensors: Path, provider: str, threads: int) -> dict[str, Any]:
    """Milliseconds to open a session and to run it once, bytes in memory, and the nodes by provider."""
    with np.load(tensors) as stored:
        feeds = {name: stored[name] for name in stored.files}
    base = memory.resident_bytes()
    start = time.perf_counter_ns()
    session = open_session(graph, provider=provider, threads=threads)
    loaded = time.perf_counter_ns()
    session_run(session)(feeds)
    ran = time.perf_counter_ns()
    peak = memory.peak_bytes()  # before the second session, which the measurement must not count
    return {
        "base_bytes": base,
        "load_ms": (loaded - start) / 1e6,
        "first_run_ms": (ran - loaded) / 1e6,
        "peak_bytes": peak,
        "nodes_by_provider": placement.nodes_by_provider(placement.recorded(session, graph)),
    }


def main(arguments: list[str]) -> int:
    """Measure what the arguments name; the exit code."""
    graph, tensors, provider, threads = arguments
    try:
        found = facts(Path(graph), Path(tensors), provider, int(threads))
    except TledgeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{json.dumps(found)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
