"""Where the nodes of a graph run: the execution provider of each, and how the time of a run is shared."""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnxruntime as ort

from tledge.artifacts import OperatorTime
from tledge.errors import BundleError
from tledge.evaluate import Array, Run
from tledge.footprint import profile
from tledge.runtime.assignment import assigned_nodes
from tledge.runtime.session import PROVIDERS, left_to_the_cpu, open_session, session_run

RUNS = 20
"""Profiled runs at most, without the first."""

SECONDS = 2.0
"""Time after which no further run is profiled; one is, however long it takes."""

SLOWEST = 10
"""Operator types that a placement names."""

ASYNCHRONOUS = frozenset(
    PROVIDERS[name] for name in ("cuda", "tensorrt_rtx", "rocm", "migraphx", "dml", "webgpu", "cann")
)
"""Providers that only start the work of a node: what onnxruntime's profile then has is not the node's time."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Nodes and the share of their time by execution provider, and the slowest operator types.

    `shape_arithmetic` counts, by operator type, those nodes on the CPU that another provider leaves there on purpose
    (`tledge.runtime.shape_arithmetic`).

    Each is empty where it is unknown: the counts with an onnxruntime older than 1.24; the times where a provider
    is one of `ASYNCHRONOUS`, or all nodes together took less than the profile's unit, 1 us.

    The counts are of the graph after onnxruntime's basic optimizations; `operators` are what ran in the end,
    where nodes may have been fused: a provider that compiles has one node for all that it took.
    """

    nodes_by_provider: Mapping[str, int] = field(default_factory=dict)
    time_share_by_provider: Mapping[str, float] = field(default_factory=dict)
    operators: tuple[OperatorTime, ...] = ()
    shape_arithmetic: Mapping[str, int] = field(default_factory=dict)


def place(
    graph: Path,
    feeds: Mapping[str, Array],
    *,
    provider: str = "cpu",
    threads: int = 1,
    strict: bool = False,
    runs: int = RUNS,
) -> Placement:
    """Where a graph runs, measured in a session of its own that onnxruntime profiles.

    A profiled run is slower than others, so that the times are good for shares and not for a latency. The first
    run is left out.

    Args:
        graph: The ONNX file.
        feeds: Input tensors by name.
        provider: Name of the execution provider, as `open_session` knows it.
        threads: Threads of one run.
        strict: As for `open_session`.
        runs: Profiled runs at most, without the first; `SECONDS` ends them too.

    Raises:
        BundleError: the graph cannot be opened or run, or its profile cannot be written or read.
        InputError: the provider is not available, or strict and leaves work on rows to the CPU.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="tledge-profile-")
    except OSError as error:
        raise BundleError(f"the profile of the graph cannot be written: {error}; set TMPDIR to a folder") from error
    with folder as name:
        session = open_session(
            graph, provider=provider, threads=threads, strict=strict, record=True, profile=Path(name) / "profile"
        )
        try:
            _repeat(session_run(session), feeds, runs)
        finally:
            written = Path(session.end_profiling())
        found = profile.read(written)
        if len(found) < 2:
            raise BundleError(
                f"the profile of the graph has {len(found)} whole runs, expected 2 or more; is there space for "
                "temporary files?"
            )
        shapes, _ = left_to_the_cpu(session, graph)
        placed = _placement(nodes_by_provider(session), profile.operators(found[1:]))
        return replace(placed, shape_arithmetic=dict(shapes.most_common()))


def nodes_by_provider(session: ort.InferenceSession) -> dict[str, int]:
    """Number of nodes by execution provider, the most first; empty where `assigned_nodes` does not know them."""
    return dict(Counter(node.provider for node in assigned_nodes(session)).most_common())


def _repeat(run: Run, feeds: Mapping[str, Array], runs: int) -> None:
    end = time.monotonic() + SECONDS
    for count in range(runs + 1):
        run(feeds)
        if count and time.monotonic() > end:
            break


def _placement(nodes: Mapping[str, int], operators: list[OperatorTime]) -> Placement:
    total = math.fsum(row.time_ms for row in operators)
    used = Counter(nodes)
    used.update(row.provider for row in operators)
    if ASYNCHRONOUS & used.keys() or not total:
        return Placement(nodes)
    times = {name: math.fsum(row.time_ms for row in operators if row.provider == name) for name in used}
    shares = {name: time / total for name, time in sorted(times.items(), key=lambda item: item[1], reverse=True)}
    return Placement(nodes, shares, tuple(operators[:SLOWEST]))
