"""Which execution provider each node of a graph was given to, as its session tells it."""

from __future__ import annotations

from collections import Counter

import onnxruntime as ort

RECORD = "session.record_ep_graph_assignment_info"
"""The configuration entry without which a session does not remember it."""


def assigned_nodes(session: ort.InferenceSession) -> Counter[tuple[str, str]]:
    """Number of nodes by execution provider and operator type, as assigned after onnxruntime's basic optimizations.

    The nodes of a subgraph (the branches of `If`, the body of `Loop`) count once each, beside the node that
    holds them. Empty means unknown: onnxruntime is older than 1.24, or the session was opened without `RECORD`.
    """
    counts: Counter[tuple[str, str]] = Counter()
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return counts
    try:
        session.get_session_options().get_session_config_entry(RECORD)
    except RuntimeError:  # no such entry
        return counts
    for part in session.get_provider_graph_assignment_info():
        counts.update((part.ep_name, node.op_type) for node in part.get_nodes())
    return counts
