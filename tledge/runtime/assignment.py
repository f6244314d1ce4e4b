"""Which execution provider each node of a graph was given to, as its session tells it."""

from __future__ import annotations

from typing import NamedTuple

import onnxruntime as ort

RECORD = "session.record_ep_graph_assignment_info"
"""The configuration entry without which a session does not remember it."""


class Assigned(NamedTuple):
    """One node: the execution provider that it was given to, its operator type, and its name, which may be empty."""

    provider: str
    operator: str
    name: str = ""


def assigned_nodes(session: ort.InferenceSession) -> list[Assigned]:
    """Every node, as assigned after onnxruntime's basic optimizations.

    The nodes of a subgraph (the branches of `If`, the body of `Loop`) are there once each, beside the node that
    holds them. Empty means unknown: onnxruntime is older than 1.24, or the session was opened without `RECORD`.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return []
    try:
        session.get_session_options().get_session_config_entry(RECORD)
    except RuntimeError:  # no such entry
        return []
    return [
        Assigned(part.ep_name, node.op_type, node.name)
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    ]
