"""What a graph costs beside its latency: size, load time and memory, each in a fresh process of its own."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tledge import graph_file
from tledge.artifacts import Footprint, from_dict
from tledge.errors import BundleError, InputError
from tledge.footprint.placement import Placement

REPEATS = 3
TIMEOUT_SECONDS = 600


def footprint(
    graph: Path,
    *,
    candidate: str,
    feeds: Mapping[str, npt.NDArray[Any]],
    threads: int = 1,
    provider: str = "cpu",
    repeats: int = REPEATS,
    strict: bool = False,
) -> Footprint:
    """Size, load time, first run, memory and node placement of a graph; medians over fresh processes.

    The placement and the time of its operators are from a second session in the first of the processes, opened
    after everything else has been measured.

    Args:
        graph: The ONNX file; the files that its weights are in are counted with it.
        candidate: The name that the result carries.
        feeds: Input tensors of the first run, by name.
        threads: Threads of one run.
        provider: Name of the execution provider, as `open_session` knows it.
        repeats: Processes started, one after the other.
        strict: Make work on rows that would go to the CPU instead of the provider an error.

    Raises:
        BundleError: the graph cannot be loaded or run; the message carries the process's reason.
        InputError: the provider cannot start or cannot take the graph, or is strict and leaves work to the CPU.
    """
    with tempfile.TemporaryDirectory() as folder:
        tensors = Path(folder) / "feeds.npz"
        _save(tensors, feeds)
        request = {
            **{"graph": str(graph), "tensors": str(tensors), "provider": provider},
            **{"threads": threads, "strict": strict},
        }
        facts = [_child({**request, "profiled": index == 0}, candidate) for index in range(repeats)]
    placed = from_dict(Placement, facts[0]["placement"])
    return Footprint(
        candidate=candidate,
        size_mb=graph_file.size_bytes(graph) / 1e6,
        load_ms=statistics.median(fact["load_ms"] for fact in facts),
        first_run_ms=statistics.median(fact["first_run_ms"] for fact in facts),
        peak_memory_mb=statistics.median(fact["peak_bytes"] for fact in facts) / 1e6,
        base_memory_mb=statistics.median(fact["base_bytes"] for fact in facts) / 1e6,
        nodes_by_provider=placed.nodes_by_provider,
        time_share_by_provider=placed.time_share_by_provider,
        operators=placed.operators,
        shape_arithmetic=placed.shape_arithmetic,
        threads=threads,
        busy_cores=statistics.median(fact["busy_cores"] for fact in facts),
    )


def resident_bytes() -> int:
    """What of this process is in memory now; on an unknown system the peak stands in for it."""
    if platform.system() == "Linux":
        return parse_status(_status())[0] or peak_bytes()
    if platform.system() == "Darwin":
        done = subprocess.run(("ps", "-o", "rss=", "-p", str(os.getpid())), capture_output=True, text=True, check=False)
        return int(done.stdout or 0) * 1024 or peak_bytes()
    return _windows_working_set()[0] if platform.system() == "Windows" else peak_bytes()


def peak_bytes() -> int:
    """The most of this process that was in memory since it began."""
    if platform.system() == "Windows":
        return _windows_working_set()[1]
    # Linux' ru_maxrss is inherited from the process that started this one, so that a big parent would hide a
    # small child; the high-water mark of the status file begins anew with each program.
    if platform.system() == "Linux" and (peak := parse_status(_status())[1]):
        return peak
    import resource

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def parse_status(text: str) -> tuple[int, int]:
    """Resident bytes now and at most out of Linux' /proc/self/status; 0 for what it does not say."""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    now, peak = (int(fields.get(name, "0 kB").split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, peak


def _save(path: Path, feeds: Mapping[str, npt.NDArray[Any]]) -> None:
    try:
        np.savez(path, **feeds)  # type: ignore[arg-type,unused-ignore]
    except OSError as error:
        raise BundleError(f"cannot write the input tensors of a run to {path}: {error.strerror}") from error


def _child(request: Mapping[str, Any], candidate: str) -> dict[str, Any]:
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            # -P: no module of the user's folder
            (sys.executable, "-P", "-m", "tledge.footprint.child", json.dumps(request)),
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired:
        raise BundleError(
            f"cannot measure {candidate!r}: loading and running it once took over {TIMEOUT_SECONDS} s"
        ) from None
    if done.returncode:
        kind = InputError if done.returncode == InputError.exit_code else BundleError
        raise kind(f"cannot measure {candidate!r}: {_reason(done)}")
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if done.returncode < 0:
        return f"its process was ended by signal {-done.returncode}; is there enough memory?"
    return said[-1] if said else f"its process ended with exit code {done.returncode}"


def _status() -> str:
    try:
        return Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return ""


def _windows_working_set() -> tuple[int, int]:
    class Counters(ctypes.Structure):  # PROCESS_MEMORY_COUNTERS
        _fields_ = (
            ("size", ctypes.c_ulong),
            ("page_faults", ctypes.c_ulong),
            *((name, ctypes.c_size_t) for name in ("peak", "now", "a", "b", "c", "d", "e", "f")),
        )

    counters = Counters(size=ctypes.sizeof(Counters))
    kernel32: Any = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]
    kernel32.GetCurrentProcess.restype = ctypes.c_void_p
    kernel32.K32GetProcessMemoryInfo.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulong)
    kernel32.K32GetProcessMemoryInfo(kernel32.GetCurrentProcess(), ctypes.byref(counters), counters.size)
    return int(counters.now), int(counters.peak)
