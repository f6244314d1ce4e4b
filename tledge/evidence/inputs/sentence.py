"""A text that becomes a vector, as it is."""

from tledge.evidence.inputs.text import MOST, shown

__all__ = ["MOST", "shown"]
