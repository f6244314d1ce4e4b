"""A thumbnail of an image, and its name."""

from tledge.evidence.inputs.image import MOST, shown

__all__ = ["MOST", "shown"]
