from tiny_graph import feeds, tiny_graph, tiny_model  # noqa: F401
