"""What a graph costs beside its latency, seen in fresh processes that import no more than they need."""
