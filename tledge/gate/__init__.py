"""The gate: measurements and a budget in, a verdict with its reasons out."""
