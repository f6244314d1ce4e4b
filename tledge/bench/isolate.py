"""A graph timed in a process of its own, run by run at the word of this one, so that two can be interleaved.

`python -m tledge.bench.isolate GRAPH FEEDS PROVIDER THREADS` is the other process: it opens the graph, says
`ready`, and answers each line with the nanoseconds of one run by both clocks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from tledge.errors import BundleError, TledgeError
from tledge.evaluate import Array
from tledge.runtime.session import bound_run, open_session

_READY = "ready"


@contextmanager
def isolated_timer(
    graph: Path, feeds: Mapping[str, Array], *, provider: str = "cpu", threads: int = 1
) -> Iterator[Callable[[], tuple[int, int]]]:
    """A function that runs the graph once, in its process, and gives the nanoseconds by the wall's clock and of work.

    The process is bound to the last `threads` cores of those that this one may use, where the system allows it. It
    ends with the context.

    Raises:
        BundleError: the graph cannot be loaded or run, or its process ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        tensors = Path(folder) / "feeds.npz"
        np.savez(tensors, **feeds)  # type: ignore[arg-type,unused-ignore]
        process = _start(graph, tensors, provider, threads)
        try:
            _answer(process, graph, _READY)

            def timer() -> tuple[int, int]:
                assert process.stdin is not None
                with suppress(BrokenPipeError):  # its answer then tells why
                    process.stdin.write("\n")
                    process.stdin.flush()
                wall, busy = _answer(process, graph).split()
                return int(wall), int(busy)

            yield timer
        finally:
            process.kill()
            process.communicate()


def _start(graph: Path, tensors: Path, provider: str, threads: int) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        # -P: no module of the user's folder
        (sys.executable, "-P", "-m", __name__, str(graph), str(tensors), provider, str(threads)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def _answer(process: subprocess.Popen[str], graph: Path, expected: str = "") -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if line == expected or (line and not expected):
        return line
    process.kill()
    said = [each.strip() for each in process.communicate()[1].splitlines() if each.strip()]
    raise BundleError(f"cannot time {graph}: {said[-1] if said else 'its process ended'}")


def main(arguments: list[str]) -> int:
    """Open what the arguments name, and run it at each line; the exit code."""
    graph, tensors, provider, threads = arguments
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-int(threads) :])
    try:
        with np.load(tensors) as stored:
            feeds = {name: stored[name] for name in stored.files}
        session = open_session(Path(graph), provider=provider, threads=int(threads))
        run = bound_run(session, feeds)
        _say(_READY)
        for _ in sys.stdin:
            start, busy = time.perf_counter_ns(), time.thread_time_ns()
            run()
            busy = time.thread_time_ns() - busy
            _say(f"{max(time.perf_counter_ns() - start, 1)} {max(busy, 1)}")
    except TledgeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
