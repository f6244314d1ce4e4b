"""Weights in 4 bits, products and embedding tables alike; see `tledge.quantize.weight_only`.

The smallest scheme, and on a small model often too coarse: `int8_weight_only` has twice the size and hardly loses.
"""

from __future__ import annotations

from pathlib import Path

from tledge.quantize import weight_only

SUFFIX = "q4"  # transformers.js' name
CALIBRATES = False
TAKES_OVERFLOW_FIX = False


def apply(source: Path, target: Path) -> None:
    """Write the 4-bit variant of the graph at `source` to `target`."""
    weight_only.apply(source, target, bits=4)
