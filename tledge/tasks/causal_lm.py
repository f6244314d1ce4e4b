"""Causal language modelling: a text goes on, one token after another."""

from __future__ import annotations

INPUT = "text"
INPUT_COLUMN = "text"
LABEL_COLUMN = ""
NEEDS_LABEL = False
METRIC = "loss"
METRICS = ("loss", "perplexity", "bits_per_byte", "next_token_accuracy")
LOWER_IS_BETTER = ("loss", "perplexity", "bits_per_byte")
LOSS = "next_token"
LOSSES = ("next_token",)
OPTIMUM_TASK = "text-generation"
PROBLEM_TYPE = "causal_lm"
