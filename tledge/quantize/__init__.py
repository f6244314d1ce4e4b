"""Variants of a graph: made by schemes, scored and timed like fp32, and chosen within the budget."""
