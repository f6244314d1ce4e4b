"""The time of each node of a graph, out of the profile that onnxruntime writes."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tledge.artifacts import OperatorTime
from tledge.errors import BundleError

_EXECUTION = "SequentialExecutor::Execute"
_RUN = "model_run"
_NODE_SUFFIX = "_kernel_time"


@dataclass(frozen=True, slots=True)
class NodeTime:
    """One node in one run: where it stands in the graph, and its own time, without that of its subgraphs' nodes."""

    place: tuple[str, ...]
    operator: str
    provider: str
    time_us: float


@dataclass(frozen=True, slots=True)
class _Span:
    """A node, or one execution of a graph: when it began and how long its nodes took, both in us, and the nodes."""

    start: int
    duration: int
    nodes: tuple[NodeTime, ...]


def read(path: Path) -> list[tuple[NodeTime, ...]]:
    """The nodes of each run of a profile file, in the order of the runs.

    Raises:
        BundleError: there is no such file, or it is no whole profile.
    """
    try:
        events = json.loads(path.read_text(encoding="utf-8"))
        return parse(events)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            f"the profile of the graph cannot be read: {type(error).__name__}: {error}; is there space for "
            "temporary files?"
        ) from error


def parse(events: Iterable[Mapping[str, Any]]) -> list[tuple[NodeTime, ...]]:
    """The nodes of each run out of a profile's events.

    An event is written when it ends, so that what belongs to it came before it and began after it: the nodes of
    an execution, and the executions of subgraphs in a node such as `If` or `Loop`. A node with subgraphs has in its
    own time what their nodes left of it; thus nothing counts twice, and the times add up to that of the nodes
    of the graph itself. A node of a loop's body comes once a round, always at the same place.
    """
    runs: list[tuple[NodeTime, ...]] = []
    nodes: list[_Span] = []
    executions: list[_Span] = []
    for event in events:
        name, start = event["name"], event["ts"]
        if event["cat"] == "Node" and name.endswith(_NODE_SUFFIX):
            executions, inner = _split(executions, start)
            nodes.append(_node(event, inner))
        elif name == _EXECUTION:
            nodes, inner = _split(nodes, start)
            parts = tuple(part for span in inner for part in span.nodes)
            executions.append(_Span(start, sum(span.duration for span in inner), parts))
        elif name == _RUN:
            runs.append(tuple(part for span in executions for part in span.nodes))
            nodes, executions = [], []
    return runs


def operators(runs: Sequence[Sequence[NodeTime]]) -> list[OperatorTime]:
    """Every operator type on every provider, slowest first; its time is the median over the runs.

    A node that a run did not reach, such as one of the branch that was not taken, is not counted.
    """
    times: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * len(runs))
    places: dict[tuple[str, str], set[tuple[str, ...]]] = defaultdict(set)
    for index, run in enumerate(runs):
        for node in run:
            kind = (node.operator, node.provider)
            times[kind][index] += node.time_us
            places[kind].add(node.place)
    medians = {kind: median(found) for kind, found in times.items()}
    total = sum(medians.values())
    rows = [
        OperatorTime(operator, provider, len(places[operator, provider]), time / 1e3, time / total if total else 0.0)
        for (operator, provider), time in medians.items()
    ]
    return sorted(rows, key=lambda row: row.time_ms, reverse=True)


def _split(spans: Sequence[_Span], start: int) -> tuple[list[_Span], list[_Span]]:
    """Those that began before a moment, and the others."""
    return [span for span in spans if span.start < start], [span for span in spans if span.start >= start]


def _node(event: Mapping[str, Any], executions: Sequence[_Span]) -> _Span:
    facts = event["args"]
    place = (str(facts.get("node_index", "")), event["name"].removesuffix(_NODE_SUFFIX))
    within = sum(execution.duration for execution in executions)
    # A provider that compiles numbers what it fused, anew for each session.
    operator = re.sub(r"(?:_\d+)+$", "", facts["op_name"])
    own = NodeTime(place, operator, facts["provider"], max(0, event["dur"] - within))
    inner = (
        NodeTime((*place, *node.place), node.operator, node.provider, node.time_us)
        for execution in executions
        for node in execution.nodes
    )
    return _Span(event["ts"], event["dur"], (own, *inner))
