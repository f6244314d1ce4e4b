"""Weights in 8 bits, products and embedding tables alike; see `tledge.quantize.weight_only`.

Products round their inputs to int8 as well, but block by block, where `int8_dynamic` has one scale for all tokens of a
run: a single token with huge activations, as most language models have, then costs the others nothing.
"""

from __future__ import annotations

from pathlib import Path

from tledge.quantize import weight_only

SUFFIX = "uint8"  # transformers.js' name of 8 bits with a zero point
CALIBRATES = False
TAKES_OVERFLOW_FIX = False


def apply(source: Path, target: Path) -> None:
    """Write the 8-bit variant of the graph at `source` to `target`."""
    weight_only.apply(source, target, bits=8)
