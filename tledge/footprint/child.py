"""The fresh process that `memory.footprint` starts.

`python -m tledge.footprint.child REQUEST`, where REQUEST is the JSON of a `Request`, prints one line of JSON; when it
fails, one line of reason goes to the error stream and it exits with the error's exit code.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tledge.artifacts import from_dict, to_dict
from tledge.errors import TledgeError
from tledge.footprint import memory, placement
from tledge.runtime.session import open_session, session_run

BUSY_SECONDS = 0.2
"""How long runs are repeated to see how many cores they keep busy; at least `BUSY_RUNS`."""

BUSY_RUNS = 3


@dataclass(frozen=True, slots=True)
class Request:
    """What the process is to measure: a graph, the file of its input tensors (.npz), and how to open it.

    `profiled` asks for the placement too, in a second session after everything else has been measured; that one is
    `strict`, so that what it looks into costs the first one no time and no memory.
    """

    graph: str
    tensors: str
    provider: str
    threads: int
    strict: bool
    profiled: bool


def facts(request: Request) -> dict[str, Any]:
    """Milliseconds to open a session and to run it once, bytes in memory, busy cores, and the placement."""
    with np.load(request.tensors) as stored:
        feeds = {name: stored[name] for name in stored.files}
    graph = Path(request.graph)
    base = memory.resident_bytes()
    start = time.perf_counter_ns()
    session = open_session(graph, provider=request.provider, threads=request.threads)
    loaded = time.perf_counter_ns()
    run = session_run(session)
    run(feeds)
    ran = time.perf_counter_ns()
    found: dict[str, Any] = {
        "base_bytes": base,
        "load_ms": (loaded - start) / 1e6,
        "first_run_ms": (ran - loaded) / 1e6,
        "peak_bytes": memory.peak_bytes(),  # before all that the measurement must not count
        "busy_cores": busy_cores(lambda: run(feeds)),
    }
    if request.profiled:
        del session, run
        found["placement"] = to_dict(
            placement.place(graph, feeds, provider=request.provider, threads=request.threads, strict=request.strict)
        )
    return found


def busy_cores(run: Callable[[], object]) -> float:
    """Processor time of this process divided by the time that passed, over runs after one that does not count.

    Idle threads that wait for work in a loop are busy too. It stays below the number of threads where work of
    others, or a quota, leaves them fewer cores.
    """
    run()
    start, used, count = time.perf_counter_ns(), time.process_time_ns(), 0
    while count < BUSY_RUNS or time.perf_counter_ns() - start < BUSY_SECONDS * 1e9:
        run()
        count += 1
    return (time.process_time_ns() - used) / (time.perf_counter_ns() - start)


def main(arguments: list[str]) -> int:
    """Measure what the argument asks for; the exit code."""
    try:
        found = facts(from_dict(Request, json.loads(arguments[0])))
    except TledgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{json.dumps(found)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
