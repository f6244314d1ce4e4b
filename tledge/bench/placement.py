"""Which execution provider each node of a graph was given to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnxruntime as ort

RECORD = "session.record_ep_graph_assignment_info"


def nodes_by_provider(session: ort.InferenceSession) -> dict[str, int]:
    """Number of nodes by execution provider, as onnxruntime assigned them after its basic optimizations.

    Empty means unknown: onnxruntime is older than 1.24, or the session was opened without the
    configuration entry `session.record_ep_graph_assignment_info`; `recorded` opens one with it.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    try:
        session.get_session_options().get_session_config_entry(RECORD)
    except RuntimeError:  # no such entry
        return {}
    counts: Counter[str] = Counter()
    for subgraph in session.get_provider_graph_assignment_info():
        counts[subgraph.ep_name] += len(subgraph.get_nodes())
    return dict(counts.most_common())


def recorded(session: ort.InferenceSession, graph: Path) -> ort.InferenceSession:
    """A second session of a graph, with the first one's options and providers, that records the placement."""
    options = session.get_session_options()
    options.add_session_config_entry(RECORD, "1")
    providers = [(name, session.get_provider_options().get(name, {})) for name in session.get_providers()]
    return ort.InferenceSession(str(graph), options, providers=providers)
